#include "core/safetensors/token_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/tensor/dtype.h"
#include "core/text/quote.h"

namespace salient {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 31;
constexpr char kLengths[] = "lengths";
constexpr char kMask[] = "attention_mask";
constexpr char kPositions[] = "position_ids";
constexpr char kTokenTypes[] = "token_type_ids";
constexpr char kLabels[] = "labels";
constexpr char kSpecialTokens[] = "special_tokens_mask";
// These tensors have a value for each token.
constexpr std::array<absl::string_view, 6> kByToken = {kTokenIds,   kMask,   kPositions,
                                                       kTokenTypes, kLabels, kSpecialTokens};

absl::Status InvalidRows(absl::string_view source, absl::string_view tensor, absl::string_view what,
                         absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": tensor ", QuoteForMessage(tensor), ": ",
                                                 what, "; expected ", expected));
}

// This is a tensor of integers or of truth values. It borrows its bytes.
class Integers {
 public:
  Integers(DType dtype, const std::byte* data) : dtype_(dtype), data_(data) {}

  int64_t operator[](int64_t i) const {
    switch (dtype_) {
      case DType::kBool:
      case DType::kU8:
        return At<uint8_t>(i);
      case DType::kI8:
        return At<int8_t>(i);
      case DType::kU16:
        return At<uint16_t>(i);
      case DType::kI16:
        return At<int16_t>(i);
      case DType::kU32:
        return At<uint32_t>(i);
      case DType::kI32:
        return At<int32_t>(i);
      case DType::kU64:
        return static_cast<int64_t>(
            std::min<uint64_t>(At<uint64_t>(i), std::numeric_limits<int64_t>::max()));
      default:
        return At<int64_t>(i);
    }
  }

 private:
  template <class T>
  T At(int64_t i) const {
    T value;
    std::memcpy(&value, data_ + static_cast<int64_t>(sizeof(T)) * i, sizeof(value));
    return value;
  }

  DType dtype_;
  const std::byte* data_;
};

bool IsInteger(DType dtype) {
  return dtype != DType::kBool && !IsFloat(dtype) && dtype != DType::kF64;
}

std::string ShapeText(const TensorEntry& entry) {
  return absl::StrCat("shape is [", absl::StrJoin(entry.shape, ", "), "]");
}

// These are the tokens of a row that are not padding.
struct RowPart {
  int64_t first = 0;
  int64_t count = 0;
};

// The file's tensors have the names, dtypes and shapes that they must have.
class TokenTensors {
 public:
  explicit TokenTensors(const SafetensorsView& view)
      : view_(view),
        shape_(view.header().Find(kTokenIds)->shape),
        ids_(*Of(kTokenIds)),
        lengths_(Of(kLengths)),
        mask_(Of(kMask)) {}

  int64_t rows() const { return shape_[0]; }
  int64_t tokens() const { return shape_[1]; }

  absl::StatusOr<RowPart> PartOf(int64_t row) const {
    RowPart part{0, tokens()};
    if (lengths_.has_value()) {
      part.count = (*lengths_)[row];
      if (part.count < 1 || part.count > tokens()) {
        return Invalid(kLengths, absl::StrCat("element [", row, "] is ", part.count),
                       absl::StrCat("1 to ", tokens()));
      }
    }
    if (!mask_.has_value()) return part;
    const absl::StatusOr<RowPart> masked = MaskedPart(row);
    if (!masked.ok() || !lengths_.has_value()) return masked;
    if (masked->first == 0 && masked->count == part.count) return part;
    return Invalid(kMask,
                   absl::StrCat("row ", row, " has tokens ", masked->first, " to ",
                                masked->first + masked->count - 1),
                   absl::StrCat("the first ", part.count, ", as lengths says"));
  }

  absl::StatusOr<std::vector<int64_t>> Ids(int64_t row, const RowPart& part) const {
    std::vector<int64_t> ids(static_cast<size_t>(part.count));
    for (int64_t i = 0; i < part.count; ++i) {
      ids[i] = ids_[row * tokens() + part.first + i];
      if (ids[i] >= 0) continue;
      return InvalidElement(kTokenIds, row, part.first + i, ids[i], "a token id, at least 0");
    }
    return ids;
  }

  // Checks that what is left out changes nothing.
  absl::Status CheckOthers(int64_t row, const RowPart& part, TokenUse use) const {
    const std::optional<Integers> types = Of(kTokenTypes);
    const std::optional<Integers> positions = Of(kPositions);
    const std::optional<Integers> labels = use == TokenUse::kScore ? Of(kLabels) : std::nullopt;
    for (int64_t i = part.first; i < part.first + part.count; ++i) {
      const int64_t at = row * tokens() + i;
      if (types.has_value() && (*types)[at] != 0) {
        return InvalidElement(kTokenTypes, row, i, (*types)[at], "0: tokens have one type here");
      }
      if (labels.has_value() && (*labels)[at] != ids_[at]) {
        return InvalidElement(kLabels, row, i, (*labels)[at],
                              absl::StrCat(ids_[at], ", the token: all of a row is scored"));
      }
      if (!positions.has_value() || i == part.first) continue;
      const int64_t next = (*positions)[at - 1] + 1;
      if ((*positions)[at] != next) {
        return InvalidElement(kPositions, row, i, (*positions)[at],
                              absl::StrCat(next, ": a row is one sequence"));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Invalid(absl::string_view tensor, absl::string_view what,
                       absl::string_view expected) const {
    return InvalidRows(view_.header().source(), tensor, what, expected);
  }

  absl::Status InvalidElement(absl::string_view tensor, int64_t row, int64_t token, int64_t value,
                              absl::string_view expected) const {
    return Invalid(tensor, absl::StrCat("element [", row, ", ", token, "] is ", value), expected);
  }

  // Returns nullopt if the file has no such tensor.
  std::optional<Integers> Of(absl::string_view name) const {
    const TensorEntry* entry = view_.header().Find(name);
    if (entry == nullptr) return std::nullopt;
    return Integers(entry->dtype, view_.Tensor(name)->data());
  }

  absl::StatusOr<RowPart> MaskedPart(int64_t row) const {
    RowPart part;
    for (int64_t i = 0; i < tokens(); ++i) {
      const int64_t value = (*mask_)[row * tokens() + i];
      if (value != 0 && value != 1) {
        return InvalidElement(kMask, row, i, value, "0 for padding or 1 for a token");
      }
      if (value == 0) continue;
      if (part.count > 0 && i != part.first + part.count) {
        return InvalidElement(kMask, row, i, 1,
                              absl::StrCat("0, as position ", i - 1,
                                           " has: the tokens of a row must be without a gap"));
      }
      if (part.count == 0) part.first = i;
      ++part.count;
    }
    if (part.count > 0) return part;
    return Invalid(kMask, absl::StrCat("row ", row, " is all 0"), "a token in every row");
  }

  const SafetensorsView& view_;
  const std::vector<int64_t>& shape_;
  Integers ids_;
  std::optional<Integers> lengths_;
  std::optional<Integers> mask_;
};

}  // namespace

absl::Status CheckTokenTensors(const SafetensorsHeader& header) {
  const std::string& source = header.source();
  const TensorEntry* ids = header.Find(kTokenIds);
  if (ids == nullptr) {
    return InvalidRows(source, kTokenIds, "is missing", "integers, [rows, tokens]");
  }
  if (ids->shape.size() != 2 || ids->shape[0] < 1 || ids->shape[1] < 1) {
    return InvalidRows(source, kTokenIds, ShapeText(*ids), "[rows, tokens], each at least 1");
  }
  for (const TensorEntry& entry : header.tensors()) {
    const bool by_token = std::find(kByToken.begin(), kByToken.end(), entry.name) != kByToken.end();
    if (!by_token && entry.name != kLengths) {
      return InvalidRows(source, entry.name, "is unknown",
                         absl::StrCat(kTokenIds, ", ", kMask, " and ", kLengths, " alone"));
    }
    const bool is_mask = entry.name == kMask || entry.name == kSpecialTokens;
    if (!IsInteger(entry.dtype) && !(is_mask && entry.dtype == DType::kBool)) {
      return InvalidRows(source, entry.name, absl::StrCat("dtype is ", Name(entry.dtype)),
                         "integers, such as I32 or I64");
    }
    if (by_token && entry.shape != ids->shape) {
      return InvalidRows(source, entry.name, ShapeText(entry),
                         absl::StrCat("[", absl::StrJoin(ids->shape, ", "), "], as input_ids has"));
    }
    if (!by_token && entry.shape != std::vector<int64_t>{ids->shape[0]}) {
      return InvalidRows(source, entry.name, ShapeText(entry),
                         absl::StrCat("[", ids->shape[0], "], the rows of input_ids"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<int64_t>>> ReadTokenRows(absl::string_view source,
                                                                absl::Span<const std::byte> file,
                                                                int64_t max_rows, TokenUse use) {
  if (max_rows < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": max_rows is ", max_rows, "; expected at least 0"));
  }
  const auto view = SafetensorsView::Parse(source, file);
  if (!view.ok()) return view.status();
  if (absl::Status status = CheckTokenTensors(view->header()); !status.ok()) return status;
  const TokenTensors tensors(*view);
  const int64_t rows = max_rows == 0 ? tensors.rows() : std::min(max_rows, tensors.rows());
  std::vector<std::vector<int64_t>> result;
  int64_t total = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const absl::StatusOr<RowPart> part = tensors.PartOf(row);
    if (!part.ok()) return part.status();
    total += part->count;
    if (total > kMaxTokens) {
      return InvalidRows(source, kTokenIds, absl::StrCat("has more than ", kMaxTokens, " tokens"),
                         "at most as many");
    }
    absl::StatusOr<std::vector<int64_t>> ids = tensors.Ids(row, *part);
    if (!ids.ok()) return ids.status();
    if (absl::Status status = tensors.CheckOthers(row, *part, use); !status.ok()) return status;
    result.push_back(*std::move(ids));
  }
  return result;
}

}  // namespace salient
