#include "core/pack/dequantized_fp16.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/tensor/narrow_f16.h"

namespace salient {

absl::StatusOr<std::vector<NamedTensor>> DequantizeToFp16(const std::string& prefix,
                                                          const AffineGroups& groups) {
  const int64_t outputs = groups.out_features;
  const int64_t inputs = groups.in_features;
  NamedTensor weight{absl::StrCat(prefix, ".weight"), DType::kF16, {outputs, inputs}, {}};
  weight.data.resize(static_cast<size_t>(2 * outputs * inputs));
  std::vector<float> row(static_cast<size_t>(inputs));
  for (int64_t i = 0; i < outputs; ++i) {
    groups.DecodeRow(i, row.data());
    absl::Status status =
        NarrowToF16(weight.name, row.data(), 1, inputs, i, weight.data.data() + 2 * i * inputs);
    if (!status.ok()) return status;
  }
  std::vector<NamedTensor> tensors;
  tensors.push_back(std::move(weight));
  return tensors;
}

}  // namespace salient
