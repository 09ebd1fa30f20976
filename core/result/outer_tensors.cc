#include "core/result/outer_tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/block_weights.h"
#include "core/model/model.h"
#include "core/result/plain_dtypes.h"
#include "core/tensor/half.h"
#include "core/tensor/narrow.h"
#include "core/tensor/non_finite.h"

namespace salient {
namespace {

// This is what is converted at a time. No row is longer, because a config's hidden_size is bounded.
constexpr int64_t kRangeElements = int64_t{1} << 20;

class OuterTensorCopier {
 public:
  OuterTensorCopier(const TensorSource& source, const TensorSpec& spec, DType from, DType to,
                    bool of_vocabulary, bool makes_logits, const OuterTensorsParams& params)
      : source_(source),
        from_(from),
        target_{spec.name, to, spec.shape},
        columns_(spec.shape.back()),
        of_vocabulary_(of_vocabulary),
        params_(params) {
    unused_.tensor = spec.name;
    unused_.dtype = to;
    unused_.makes_logits = makes_logits;
  }

  absl::Status Run(TensorBytes out) {
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < target_.shape.size(); ++i) rows *= target_.shape[i];
    const int64_t step = std::max<int64_t>(1, kRangeElements / columns_);
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t count = std::min(step, rows - row);
      if (absl::Status status = Read(row, count); !status.ok()) return status;
      absl::Status status = Convert(row, count);
      if (!status.ok()) return status;
      status = out(target_, row * columns_ * SizeOf(target_.dtype), narrow_);
      if (!status.ok()) return status;
    }
    if (unused_.count > 0 && params_.unused) params_.unused(unused_);
    return absl::OkStatus();
  }

 private:
  absl::Status Read(int64_t row, int64_t count) {
    const int64_t row_bytes = columns_ * SizeOf(from_);
    bytes_.resize(static_cast<size_t>(count * row_bytes));
    absl::Status status = source_.ReadRange(target_.name, row * row_bytes, absl::MakeSpan(bytes_));
    if (!status.ok()) return status;
    values_.resize(static_cast<size_t>(count * columns_));
    WidenToF32(from_, bytes_.data(), count * columns_, values_.data());
    narrow_.resize(values_.size() * SizeOf(target_.dtype));
    return absl::OkStatus();
  }

  absl::Status Convert(int64_t first, int64_t count) {
    absl::Status status =
        Narrow(target_.dtype, target_.name, values_.data(), count, columns_, first, narrow_.data());
    if (status.ok()) return status;
    if (!of_vocabulary_) return InItsFile(source_, target_.name, status);
    for (int64_t i = 0; i < count; ++i) {
      const float* values = values_.data() + i * columns_;
      std::byte* to = narrow_.data() + i * columns_ * SizeOf(target_.dtype);
      status = Narrow(target_.dtype, target_.name, values, 1, columns_, first + i, to);
      if (!status.ok()) status = Keep(i, first + i, status);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // Keeps row `id`, the `i`th of those that were read, which cannot be written for `fault`.
  absl::Status Keep(int64_t i, int64_t id, const absl::Status& fault) {
    if (absl::Status status = FindHighestId(fault); !status.ok()) return status;
    if (id <= *highest_id_) return InItsFile(source_, target_.name, fault);
    const int64_t row_bytes = columns_ * SizeOf(target_.dtype);
    std::byte* to = narrow_.data() + i * row_bytes;
    if (from_ == target_.dtype) {
      std::memcpy(to, bytes_.data() + i * row_bytes, static_cast<size_t>(row_bytes));
    } else {
      for (int64_t j = 0; j < columns_; ++j) {
        const float value = values_[static_cast<size_t>(i * columns_ + j)];
        const uint16_t bits = target_.dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
        const float held = target_.dtype == DType::kF16 ? F16ToF32(bits) : BF16ToF32(bits);
        // A logit of the source would be finite, and one of the result would not.
        if (unused_.makes_logits && std::isfinite(value) && !std::isfinite(held)) {
          return InItsFile(source_, target_.name, fault);
        }
        std::memcpy(to + 2 * j, &bits, sizeof(bits));
      }
    }
    if (unused_.count++ == 0) unused_.first = id;
    unused_.last = id;
    unused_.highest_token_id = *highest_id_;
    return absl::OkStatus();
  }

  // Returns `fault`, and why every row counts as used, unless the tokenizer tells.
  absl::Status FindHighestId(const absl::Status& fault) {
    if (highest_id_.has_value()) return absl::OkStatus();
    absl::StatusOr<int64_t> highest = absl::NotFoundError("nothing tells which ids tokens have");
    if (params_.highest_token_id) highest = params_.highest_token_id();
    if (highest.ok()) {
      highest_id_ = *highest;
      return absl::OkStatus();
    }
    if (!absl::IsNotFound(highest.status()) && !absl::IsInvalidArgument(highest.status())) {
      return highest.status();
    }
    const std::string text = absl::StrCat(
        fault.message(), ", unless no token has this id: ", highest.status().message());
    return InItsFile(source_, target_.name, NonFiniteError(text));
  }

  const TensorSource& source_;
  const DType from_;
  const TensorShape target_;
  const int64_t columns_;
  const bool of_vocabulary_;  // A row belongs to an id.
  const OuterTensorsParams& params_;
  std::optional<int64_t> highest_id_;
  UnusedRows unused_;
  std::vector<std::byte> bytes_;   // They are the range as it came.
  std::vector<float> values_;      // They are the range, widened.
  std::vector<std::byte> narrow_;  // They are the range as it goes.
};

}  // namespace

std::string UnusedRows::Describe() const {
  const std::string rows = count == 1
                               ? absl::StrCat("row ", first, " is")
                               : absl::StrCat(count, " rows of ", first, " to ", last, " are");
  const char* const effect =
      makes_logits ? ". Engines make NaN of every probability if their softmax takes these ids in, "
                     "with the source as with the result"
                   : "";
  return absl::StrCat(tensor, ": ", rows, " not finite in ", Name(dtype),
                      " and kept so, because no token has an id above ", highest_token_id, effect);
}

absl::Status CopyOuterTensors(const TensorSource& source, const Model& model, TensorBytes out,
                              const OuterTensorsParams& params) {
  const PlainDTypes dtypes = PlainDTypesOf(source, model);
  for (const TensorSpec& spec : OuterTensors(model)) {
    if (params.wanted && !params.wanted(spec.name)) continue;
    const auto found = FindTensor(source, model.config, spec);
    if (!found.ok()) return found.status();
    const bool makes_logits = spec.name == model.HeadName();
    const bool of_vocabulary = makes_logits || spec.name == model.embeddings;
    OuterTensorCopier copier(source, spec, found->entry->dtype, dtypes.Of(spec.name), of_vocabulary,
                             makes_logits, params);
    if (absl::Status status = copier.Run(out); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace salient
