#include "core/pack/int_quantized.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/pack/expected_tensor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

constexpr int kZeroPoint = 128;

}  // namespace

absl::StatusOr<std::vector<NamedTensor>> StartIntQuantized(const std::string& prefix,
                                                           const AffineGroups& groups,
                                                           float input_scale) {
  const WeightFormat& format = groups.format;
  const int64_t outputs = groups.out_features;
  const bool whole_tensor = format.group_size == kWholeTensor;
  if (format.bits != 8 || !format.symmetric || groups.Groups() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        prefix, ": int-quantized holds symmetric codes of 8 bits with one scale a row; they have ",
        format.bits, " bits and ", groups.Groups(), " scales a row",
        format.symmetric ? "" : " and zero points"));
  }
  std::vector<NamedTensor> tensors = {
      {absl::StrCat(prefix, ".weight"), DType::kI8, {outputs, groups.in_features}, {}},
      {absl::StrCat(prefix, ".weight_scale"), DType::kF32, {outputs, 1}, {}}};
  if (whole_tensor) tensors[1].shape = {1};
  const size_t scales = whole_tensor ? 1 : static_cast<size_t>(outputs);
  tensors[0].data.resize(static_cast<size_t>(outputs * groups.in_features));
  tensors[1].data.resize(scales * sizeof(float));
  std::memcpy(tensors[1].data.data(), groups.scales.data(), scales * sizeof(float));
  if (input_scale > 0) {
    NamedTensor scale{absl::StrCat(prefix, ".input_scale"), DType::kF32, {1}, {}};
    scale.data.resize(sizeof(input_scale));
    std::memcpy(scale.data.data(), &input_scale, sizeof(input_scale));
    tensors.push_back(std::move(scale));
  }
  return tensors;
}

void PackIntQuantizedRows(const AffineGroups& groups, int64_t first, int64_t last,
                          std::vector<NamedTensor>& tensors) {
  const int64_t inputs = groups.in_features;
  for (int64_t i = first * inputs; i < last * inputs; ++i) {
    tensors[0].data[i] = static_cast<std::byte>(groups.codes[i] - kZeroPoint);
  }
}

absl::StatusOr<std::vector<NamedTensor>> PackIntQuantized(const std::string& prefix,
                                                          const AffineGroups& groups,
                                                          float input_scale) {
  absl::StatusOr<std::vector<NamedTensor>> tensors = StartIntQuantized(prefix, groups, input_scale);
  if (tensors.ok()) PackIntQuantizedRows(groups, 0, groups.out_features, *tensors);
  return tensors;
}

absl::Status CheckIntQuantized(absl::string_view source, const IntQuantizedTensors& tensors,
                               int64_t out_features, int64_t in_features) {
  const std::vector<int64_t>& shape = tensors.weight_scale.shape;
  std::vector<int64_t> scales = {out_features, 1};
  if (shape == std::vector<int64_t>{1} || shape == std::vector<int64_t>{out_features}) {
    scales = shape;
  }
  return CheckTensors(source,
                      {{&tensors.weight, DType::kI8, {out_features, in_features}},
                       {&tensors.weight_scale, std::nullopt, scales}},
                      absl::StrCat("[", out_features, ", ", in_features, "] of 8 bits"));
}

Matrix DecodeIntQuantized(const IntQuantizedTensors& tensors, int64_t first, int64_t count) {
  const int64_t inputs = tensors.weight.shape[1];
  const DType dtype = tensors.weight_scale.dtype;
  const bool whole_tensor = tensors.weight_scale.shape[0] == 1;
  Matrix decoded = Matrix::Unset(count, inputs);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t n = first + i;
    float scale = 0;
    WidenToF32(dtype, tensors.weight_scale.data.data() + (whole_tensor ? 0 : n) * SizeOf(dtype), 1,
               &scale);
    const auto* codes = reinterpret_cast<const int8_t*>(tensors.weight.data.data() + n * inputs);
    float* out = decoded.Row(i);
    for (int64_t k = 0; k < inputs; ++k) out[k] = scale * static_cast<float>(codes[k]);
  }
  return decoded;
}

}  // namespace salient
