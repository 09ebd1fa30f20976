#include "core/pack/scaled_fp16.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/dtype.h"
#include "core/tensor/narrow.h"

namespace salient {

NamedTensor StartFp16Weight(const std::string& prefix, int64_t out_features, int64_t in_features) {
  NamedTensor tensor{absl::StrCat(prefix, ".weight"), DType::kF16, {out_features, in_features}, {}};
  tensor.data.resize(static_cast<size_t>(2 * out_features * in_features));
  return tensor;
}

absl::Status ScaleToFp16Rows(const WeightView& weight, absl::Span<const float> scales,
                             int64_t first, int64_t last, NamedTensor& tensor) {
  const int64_t inputs = weight.in_features;
  std::vector<float> row(static_cast<size_t>(inputs));
  for (int64_t i = first; i < last; ++i) {
    weight.ReadRows(i, 1, row.data());
    for (int64_t k = 0; k < inputs; ++k) row[k] *= scales[k];
    absl::Status status = Narrow(tensor.dtype, tensor.name, row.data(), 1, inputs, i,
                                 tensor.data.data() + 2 * i * inputs);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace salient
