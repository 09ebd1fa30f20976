#include "core/pack/awq_gemm.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
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

}  // namespace salient
