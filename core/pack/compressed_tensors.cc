#include "core/pack/compressed_tensors.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/pack/code_stream.h"
#include "core/pack/expected_tensor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

bool IsWidth(int bits) { return bits == 4 || bits == 8; }

}  // namespace

absl::StatusOr<std::vector<NamedTensor>> StartCompressedTensors(const std::string& prefix,
                                                                const AffineGroups& groups) {
  const int bits = groups.format.bits;
  if (!IsWidth(bits)) {
    return absl::InvalidArgumentError(absl::StrCat(
        prefix, ": compressed-tensors is packed with codes of 4 or 8 bits; bits is ", bits));
  }
  if (groups.format.scale_dtype != DType::kF16) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, ": compressed-tensors is packed with scales in F16; they are ",
                     Name(groups.format.scale_dtype)));
  }
  const int64_t outputs = groups.out_features;
  const int64_t inputs = groups.in_features;
  const int64_t per_row = groups.Groups();
  std::vector<NamedTensor> tensors = {
      {absl::StrCat(prefix, ".weight_packed"), DType::kI32, {outputs, WordsOf(inputs, bits)}, {}},
      {absl::StrCat(prefix, ".weight_scale"), DType::kF16, {outputs, per_row}, {}},
      {absl::StrCat(prefix, ".weight_shape"), DType::kI64, {2}, {}}};
  if (!groups.format.symmetric) {
    tensors.push_back({absl::StrCat(prefix, ".weight_zero_point"),
                       DType::kI32,
                       {WordsOf(outputs, bits), per_row},
                       {}});
  }
  for (NamedTensor& tensor : tensors) {
    int64_t bytes = SizeOf(tensor.dtype);
    for (const int64_t dimension : tensor.shape) bytes *= dimension;
    tensor.data.resize(static_cast<size_t>(bytes));
  }
  const int64_t shape[2] = {outputs, inputs};
  std::memcpy(tensors[2].data.data(), shape, sizeof(shape));
  return tensors;
}

void PackCompressedOutputs(const AffineGroups& groups, int64_t first, int64_t last,
                           std::vector<NamedTensor>& tensors) {
  const int bits = groups.format.bits;
  const int64_t inputs = groups.in_features;
  const int64_t row_bytes = 4 * WordsOf(inputs, bits);
  const int64_t per_row = groups.Groups();
  for (int64_t n = first; n < last; ++n) {
    PackCodes(groups.codes.data() + n * inputs, inputs, bits,
              tensors[0].data.data() + n * row_bytes);
    for (int64_t g = 0; g < per_row; ++g) {
      const uint16_t scale = F32ToF16(groups.scales[n * per_row + g]);
      std::memcpy(tensors[1].data.data() + (n * per_row + g) * 2, &scale, sizeof(scale));
    }
  }
  if (groups.format.symmetric) return;
  std::vector<uint8_t> zeros(static_cast<size_t>(last - first));
  std::vector<uint32_t> words(static_cast<size_t>(WordsOf(last - first, bits)));
  for (int64_t g = 0; g < per_row; ++g) {
    for (int64_t n = first; n < last; ++n) zeros[n - first] = groups.zero_points[n * per_row + g];
    PackCodes(zeros.data(), last - first, bits, reinterpret_cast<std::byte*>(words.data()));
    for (size_t w = 0; w < words.size(); ++w) {
      const int64_t row = first * bits / 32 + static_cast<int64_t>(w);
      std::memcpy(tensors[3].data.data() + (row * per_row + g) * 4, &words[w], sizeof(words[w]));
    }
  }
}

absl::StatusOr<std::vector<NamedTensor>> PackCompressedTensors(const std::string& prefix,
                                                               const AffineGroups& groups) {
  absl::StatusOr<std::vector<NamedTensor>> tensors = StartCompressedTensors(prefix, groups);
  if (tensors.ok()) PackCompressedOutputs(groups, 0, groups.out_features, *tensors);
  return tensors;
}

absl::Status CheckCompressedTensors(absl::string_view source, const CompressedTensors& tensors,
                                    int bits, int64_t out_features, int64_t in_features,
                                    int64_t group_size) {
  if (!IsWidth(bits)) {
    return TensorFault(source, tensors.weight_packed, "bits is ", bits,
                       "; expected 4 or 8 for compressed-tensors");
  }
  const bool any_group = !tensors.weight_g_idx.name.empty();
  const absl::StatusOr<int64_t> groups =
      GroupsOfRow(source, tensors.weight_scale, 1, in_features, group_size, any_group);
  if (!groups.ok()) return groups.status();
  const std::string what = absl::StrCat("[", out_features, ", ", in_features, "] in ", *groups,
                                        " groups of ", bits, " bits");
  absl::Status status = CheckTensors(
      source,
      {{&tensors.weight_packed, DType::kI32, {out_features, WordsOf(in_features, bits)}},
       {&tensors.weight_scale, std::nullopt, {out_features, *groups}}},
      what);
  if (status.ok() && !tensors.weight_zero_point.name.empty()) {
    status = CheckTensors(
        source, {{&tensors.weight_zero_point, DType::kI32, {WordsOf(out_features, bits), *groups}}},
        what);
  }
  if (!status.ok() || !any_group) return status;
  return CheckTensors(source, {{&tensors.weight_g_idx, DType::kI32, {in_features}}}, what);
}

absl::StatusOr<Matrix> DecodeCompressedTensors(absl::string_view source,
                                               const CompressedTensors& tensors, int bits,
                                               int64_t in_features, int64_t first, int64_t count) {
  const int64_t groups = tensors.weight_scale.shape[1];
  const absl::StatusOr<std::vector<int32_t>> group_of =
      GroupOfInputs(source, tensors.weight_g_idx, in_features, groups);
  if (!group_of.ok()) return group_of.status();
  const DType dtype = tensors.weight_scale.dtype;
  const bool symmetric = tensors.weight_zero_point.name.empty();
  Matrix decoded = Matrix::Unset(count, in_features);
  std::vector<uint8_t> codes(static_cast<size_t>(in_features));
  std::vector<float> scales(static_cast<size_t>(groups));
  std::vector<float> zeros(static_cast<size_t>(groups), static_cast<float>(1 << (bits - 1)));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t n = first + i;
    WidenToF32(dtype, tensors.weight_scale.data.data() + n * groups * SizeOf(dtype), groups,
               scales.data());
    for (int64_t g = 0; !symmetric && g < groups; ++g) {
      zeros[g] = CodeAt(tensors.weight_zero_point.data.data() + 4 * g, groups, n, bits);
    }
    UnpackCodes(tensors.weight_packed.data.data() + n * tensors.weight_packed.shape[1] * 4,
                in_features, bits, codes.data());
    float* out = decoded.Row(i);
    for (int64_t k = 0; k < in_features; ++k) {
      const int32_t g = (*group_of)[k];
      out[k] = scales[g] * (static_cast<float>(codes[k]) - zeros[g]);
    }
  }
  return decoded;
}

}  // namespace salient
