#include "core/pack/dequantized_fp16.h"

#include <utility>

#include "core/pack/scaled_fp16.h"
#include "core/tensor/narrow.h"

namespace salient {

absl::Status DequantizeRows(const AffineGroups& groups, int64_t first, int64_t last,
                            NamedTensor& tensor) {
  const int64_t inputs = groups.in_features;
  std::vector<float> row(static_cast<size_t>(inputs));
  for (int64_t i = first; i < last; ++i) {
    groups.DecodeRow(i, row.data());
    absl::Status status = Narrow(tensor.dtype, tensor.name, row.data(), 1, inputs, i,
                                 tensor.data.data() + 2 * i * inputs);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NamedTensor>> DequantizeToFp16(const std::string& prefix,
                                                          const AffineGroups& groups) {
  NamedTensor weight = StartFp16Weight(prefix, groups.out_features, groups.in_features);
  absl::Status status = DequantizeRows(groups, 0, groups.out_features, weight);
  if (!status.ok()) return status;
  std::vector<NamedTensor> tensors;
  tensors.push_back(std::move(weight));
  return tensors;
}

}  // namespace salient
