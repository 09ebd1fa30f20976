#include "core/pack/awq_gemm.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

static_assert(kAwqGemmOutputsPerWord * 4 == 32, "eight 4-bit codes fill a 32-bit word");

// Transposes and packs values [outputs, inputs] into words [inputs, outputs / 8].
std::vector<std::byte> PackNibbles(const uint8_t* values, int64_t outputs, int64_t inputs) {
  const int64_t words = outputs / kAwqGemmOutputsPerWord;
  std::vector<std::byte> packed(static_cast<size_t>(inputs * words) * sizeof(uint32_t));
  constexpr int64_t kTile = 64;  // inputs at a time: reads stay in cache lines already fetched
  for (int64_t first = 0; first < inputs; first += kTile) {
    const int64_t last = std::min(inputs, first + kTile);
    for (int64_t c = 0; c < words; ++c) {
      for (int64_t k = first; k < last; ++k) {
        uint32_t word = 0;
        for (int i = 0; i < kAwqGemmOutputsPerWord; ++i) {
          const int64_t output = c * kAwqGemmOutputsPerWord + kAwqGemmOrder[i];
          word |= static_cast<uint32_t>(values[output * inputs + k]) << (4 * i);
        }
        std::memcpy(packed.data() + (k * words + c) * 4, &word, sizeof(word));
      }
    }
  }
  return packed;
}

// The inverse: words [inputs, outputs / 8] to values [outputs, inputs].
std::vector<uint8_t> UnpackNibbles(const std::vector<std::byte>& packed, int64_t outputs,
                                   int64_t inputs) {
  const int64_t words = outputs / kAwqGemmOutputsPerWord;
  std::vector<uint8_t> values(static_cast<size_t>(outputs * inputs));
  constexpr int64_t kTile = 64;
  for (int64_t first = 0; first < inputs; first += kTile) {
    const int64_t last = std::min(inputs, first + kTile);
    for (int64_t c = 0; c < words; ++c) {
      for (int64_t k = first; k < last; ++k) {
        uint32_t word;
        std::memcpy(&word, packed.data() + (k * words + c) * 4, sizeof(word));
        for (int i = 0; i < kAwqGemmOutputsPerWord; ++i) {
          const int64_t output = c * kAwqGemmOutputsPerWord + kAwqGemmOrder[i];
          values[output * inputs + k] = static_cast<uint8_t>((word >> (4 * i)) & 15);
        }
      }
    }
  }
  return values;
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace

absl::StatusOr<std::vector<NamedTensor>> PackAwqGemm(const std::string& prefix,
                                                     const AffineGroups& groups) {
  const int64_t outputs = groups.out_features;
  const int64_t inputs = groups.in_features;
  if (groups.format.bits != 4) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, ": awq-gemm holds 4-bit codes only; bits is ", groups.format.bits));
  }
  if (outputs % kAwqGemmOutputsPerWord != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        prefix, ": awq-gemm needs out_features to be a multiple of 8; it is ", outputs));
  }
  if (groups.format.scale_dtype != DType::kF16) {
    return absl::InvalidArgumentError(absl::StrCat(
        prefix, ": awq-gemm stores scales as F16; they are ", Name(groups.format.scale_dtype)));
  }
  const int64_t per_row = groups.Groups();
  const int64_t words = outputs / kAwqGemmOutputsPerWord;
  std::vector<NamedTensor> tensors;
  tensors.push_back({absl::StrCat(prefix, ".qweight"),
                     DType::kI32,
                     {inputs, words},
                     PackNibbles(groups.codes.data(), outputs, inputs)});
  tensors.push_back({absl::StrCat(prefix, ".qzeros"),
                     DType::kI32,
                     {per_row, words},
                     PackNibbles(groups.zero_points.data(), outputs, per_row)});
  NamedTensor scales{absl::StrCat(prefix, ".scales"), DType::kF16, {per_row, outputs}, {}};
  scales.data.resize(static_cast<size_t>(per_row * outputs) * sizeof(uint16_t));
  for (int64_t g = 0; g < per_row; ++g) {
    for (int64_t n = 0; n < outputs; ++n) {
      const uint16_t bits = F32ToF16(groups.scales[n * per_row + g]);
      std::memcpy(scales.data.data() + (g * outputs + n) * 2, &bits, sizeof(bits));
    }
  }
  tensors.push_back(std::move(scales));
  return tensors;
}

absl::Status CheckAwqGemm(absl::string_view source, const AwqGemmTensors& tensors,
                          int64_t out_features, int64_t in_features, int64_t group_size) {
  const auto fail = [&](const NamedTensor& tensor, const auto&... what) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": tensor \"", tensor.name, "\": ", what...));
  };
  if (out_features % kAwqGemmOutputsPerWord != 0) {
    return fail(tensors.qweight, "out_features is ", out_features,
                "; expected a multiple of 8 for awq-gemm");
  }
  int64_t groups = 0;
  if (group_size != 0) {
    const int64_t size = group_size == -1 ? in_features : group_size;
    if (size < 1 || in_features % size != 0) {
      return fail(tensors.qweight, "group_size is ", group_size,
                  "; expected -1 or a divisor of in_features, which is ", in_features);
    }
    groups = in_features / size;
  } else {
    const std::vector<int64_t>& shape = tensors.scales.shape;
    if (shape.size() != 2 || shape[0] < 1 || in_features % shape[0] != 0) {
      return fail(tensors.scales, "shape is ", ShapeText(shape), "; expected [groups, ",
                  out_features, "], groups a divisor of in_features, which is ", in_features);
    }
    groups = shape[0];
  }
  const int64_t words = out_features / kAwqGemmOutputsPerWord;
  const std::pair<const NamedTensor*, std::vector<int64_t>> expected[] = {
      {&tensors.qweight, {in_features, words}},
      {&tensors.qzeros, {groups, words}},
      {&tensors.scales, {groups, out_features}}};
  for (const auto& [tensor, shape] : expected) {
    const bool scales = tensor == &tensors.scales;
    if (scales ? !IsFloat(tensor->dtype) : tensor->dtype != DType::kI32) {
      return fail(*tensor, "dtype is ", Name(tensor->dtype), "; expected ",
                  scales ? "F16, BF16 or F32" : "I32");
    }
    if (tensor->shape == shape) continue;
    return fail(*tensor, "shape is ", ShapeText(tensor->shape), "; expected ", ShapeText(shape),
                " for [", out_features, ", ", in_features, "] in groups of ", in_features / groups);
  }
  return absl::OkStatus();
}

AffineGroups UnpackAwqGemm(const AwqGemmTensors& tensors) {
  AffineGroups groups;
  groups.in_features = tensors.qweight.shape[0];
  groups.out_features = tensors.scales.shape[1];
  const int64_t per_row = tensors.scales.shape[0];
  groups.format = {4, groups.in_features / per_row, false, tensors.scales.dtype};
  groups.codes = UnpackNibbles(tensors.qweight.data, groups.out_features, groups.in_features);
  groups.zero_points = UnpackNibbles(tensors.qzeros.data, groups.out_features, per_row);
  std::vector<float> row(static_cast<size_t>(groups.out_features));
  groups.scales.resize(static_cast<size_t>(per_row * groups.out_features));
  for (int64_t g = 0; g < per_row; ++g) {
    WidenToF32(tensors.scales.dtype,
               tensors.scales.data.data() + g * groups.out_features * SizeOf(tensors.scales.dtype),
               groups.out_features, row.data());
    for (int64_t n = 0; n < groups.out_features; ++n) groups.scales[n * per_row + g] = row[n];
  }
  return groups;
}

}  // namespace salient
