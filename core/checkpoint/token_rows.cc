#include "core/checkpoint/token_rows.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/checkpoint/safetensors.h"

namespace salient {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 31;

absl::Status InvalidRows(absl::string_view source, absl::string_view tensor, absl::string_view what,
                         absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": tensor \"", tensor, "\": ", what, "; expected ", expected));
}

// A tensor of I32 or I64. Borrows its bytes.
struct Integers {
  DType dtype = DType::kI64;
  const std::byte* data = nullptr;

  int64_t operator[](int64_t i) const {
    if (dtype == DType::kI32) {
      int32_t value;
      std::memcpy(&value, data + 4 * i, sizeof(value));
      return value;
    }
    int64_t value;
    std::memcpy(&value, data + 8 * i, sizeof(value));
    return value;
  }
};

absl::StatusOr<Integers> IntegersOf(const SafetensorsView& view, const TensorEntry& entry) {
  if (entry.dtype != DType::kI32 && entry.dtype != DType::kI64) {
    return InvalidRows(view.header().source(), entry.name,
                       absl::StrCat("dtype is ", Name(entry.dtype)), "I32 or I64");
  }
  const auto bytes = view.Tensor(entry.name);
  if (!bytes.ok()) return bytes.status();
  return Integers{entry.dtype, bytes->data()};
}

std::string ShapeText(const TensorEntry& entry) {
  return absl::StrCat("shape is [", absl::StrJoin(entry.shape, ", "), "]");
}

}  // namespace

absl::StatusOr<std::vector<std::vector<int64_t>>> ReadTokenRows(absl::string_view source,
                                                                absl::Span<const std::byte> file,
                                                                int64_t max_rows) {
  if (max_rows < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": max_rows is ", max_rows, "; expected at least 0"));
  }
  const auto view = SafetensorsView::Parse(source, file);
  if (!view.ok()) return view.status();
  const TensorEntry* entry = view->header().Find("input_ids");
  if (entry == nullptr)
    return InvalidRows(source, "input_ids", "is missing", "I32 or I64 [rows, tokens]");
  const auto ids = IntegersOf(*view, *entry);
  if (!ids.ok()) return ids.status();
  if (entry->shape.size() != 2 || entry->shape[0] < 1 || entry->shape[1] < 1) {
    return InvalidRows(source, "input_ids", ShapeText(*entry), "[rows, tokens], each at least 1");
  }
  const int64_t tokens = entry->shape[1];

  const TensorEntry* lengths_entry = view->header().Find("lengths");
  Integers lengths;
  if (lengths_entry != nullptr) {
    const auto found = IntegersOf(*view, *lengths_entry);
    if (!found.ok()) return found.status();
    lengths = *found;
    if (lengths_entry->shape != std::vector<int64_t>{entry->shape[0]}) {
      return InvalidRows(source, "lengths", ShapeText(*lengths_entry),
                         absl::StrCat("[", entry->shape[0], "], the rows of input_ids"));
    }
  }

  const int64_t rows = max_rows == 0 ? entry->shape[0] : std::min(max_rows, entry->shape[0]);
  std::vector<std::vector<int64_t>> result;
  int64_t total = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t length = lengths_entry == nullptr ? tokens : lengths[row];
    if (length < 1 || length > tokens) {
      return InvalidRows(source, "lengths", absl::StrCat("element [", row, "] is ", length),
                         absl::StrCat("1 to ", tokens));
    }
    total += length;
    if (total > kMaxTokens) {
      return InvalidRows(source, "input_ids", absl::StrCat("has more than ", kMaxTokens, " tokens"),
                         "at most as many");
    }
    std::vector<int64_t>& ids_of_row = result.emplace_back(static_cast<size_t>(length));
    for (int64_t i = 0; i < length; ++i) {
      const int64_t id = (*ids)[row * tokens + i];
      if (id < 0) {
        return InvalidRows(source, "input_ids",
                           absl::StrCat("element [", row, ", ", i, "] is ", id),
                           "a token id, at least 0");
      }
      ids_of_row[i] = id;
    }
  }
  return result;
}

}  // namespace salient
