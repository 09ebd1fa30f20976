#include "core/pack/awq_gemm.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/pack/expected_tensor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

static_assert(kAwqGemmOutputsPerWord * 4 == 32, "eight 4-bit codes fill a 32-bit word");

constexpr int64_t kInputs = 64;     // A tile has so many: a cache line of codes.
constexpr int64_t kLineWords = 16;  // A tile has so many: a cache line of words.

// The words of eight consecutive outputs at `n` inputs, rows[o] the codes of the o-th: bytes first,
// because many of them fit a register.
void PackOutputs(const std::array<const uint8_t*, kAwqGemmOutputsPerWord>& rows, int64_t n,
                 uint32_t* words) {
  std::array<std::array<uint8_t, kInputs>, 4> bytes;
  for (size_t b = 0; b < bytes.size(); ++b) {
    const uint8_t* low = rows[kAwqGemmOrder[2 * b]];
    const uint8_t* high = rows[kAwqGemmOrder[2 * b + 1]];
    for (int64_t k = 0; k < n; ++k) bytes[b][k] = static_cast<uint8_t>(low[k] | (high[k] << 4));
  }
  for (int64_t k = 0; k < n; ++k) {
    words[k] = uint32_t{bytes[0][k]} | uint32_t{bytes[1][k]} << 8 | uint32_t{bytes[2][k]} << 16 |
               uint32_t{bytes[3][k]} << 24;
  }
}

// Transposes and packs words [first, last) of every row: values [outputs, inputs] into
// packed [inputs, outputs / 8].
void PackNibbles(const uint8_t* values, int64_t outputs, int64_t inputs, int64_t first,
                 int64_t last, std::byte* packed) {
  const int64_t row_words = outputs / kAwqGemmOutputsPerWord;
  std::array<std::array<uint32_t, kInputs>, kLineWords> tile;
  for (int64_t c = first; c < last; c += kLineWords) {
    const int64_t words = std::min(kLineWords, last - c);
    for (int64_t k = 0; k < inputs; k += kInputs) {
      const int64_t n = std::min(kInputs, inputs - k);
      for (int64_t w = 0; w < words; ++w) {
        std::array<const uint8_t*, kAwqGemmOutputsPerWord> rows;
        for (int64_t o = 0; o < kAwqGemmOutputsPerWord; ++o) {
          rows[o] = values + ((c + w) * kAwqGemmOutputsPerWord + o) * inputs + k;
        }
        PackOutputs(rows, n, tile[w].data());
      }
      for (int64_t i = 0; i < n; ++i) {
        std::array<uint32_t, kLineWords> line;
        for (int64_t w = 0; w < words; ++w) line[w] = tile[w][i];
        std::memcpy(packed + ((k + i) * row_words + c) * 4, line.data(),
                    static_cast<size_t>(words) * 4);
      }
    }
  }
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

}  // namespace

absl::StatusOr<std::vector<NamedTensor>> StartAwqGemm(const std::string& prefix,
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
  std::vector<NamedTensor> tensors = {
      {absl::StrCat(prefix, ".qweight"), DType::kI32, {inputs, words}, {}},
      {absl::StrCat(prefix, ".qzeros"), DType::kI32, {per_row, words}, {}},
      {absl::StrCat(prefix, ".scales"), DType::kF16, {per_row, outputs}, {}}};
  for (NamedTensor& tensor : tensors) {
    tensor.data.resize(
        static_cast<size_t>(tensor.shape[0] * tensor.shape[1] * SizeOf(tensor.dtype)));
  }
  return tensors;
}

void PackAwqGemmWords(const AffineGroups& groups, int64_t first, int64_t last,
                      std::vector<NamedTensor>& tensors) {
  const int64_t outputs = groups.out_features;
  const int64_t per_row = groups.Groups();
  PackNibbles(groups.codes.data(), outputs, groups.in_features, first, last,
              tensors[0].data.data());
  PackNibbles(groups.zero_points.data(), outputs, per_row, first, last, tensors[1].data.data());
  std::byte* scales = tensors[2].data.data();
  for (int64_t n = first * kAwqGemmOutputsPerWord; n < last * kAwqGemmOutputsPerWord; ++n) {
    for (int64_t g = 0; g < per_row; ++g) {
      const uint16_t bits = F32ToF16(groups.scales[n * per_row + g]);
      std::memcpy(scales + (g * outputs + n) * 2, &bits, sizeof(bits));
    }
  }
}

absl::StatusOr<std::vector<NamedTensor>> PackAwqGemm(const std::string& prefix,
                                                     const AffineGroups& groups) {
  absl::StatusOr<std::vector<NamedTensor>> tensors = StartAwqGemm(prefix, groups);
  if (!tensors.ok()) return tensors;
  PackAwqGemmWords(groups, 0, groups.out_features / kAwqGemmOutputsPerWord, *tensors);
  return tensors;
}

absl::Status CheckAwqGemm(absl::string_view source, const AwqGemmTensors& tensors,
                          int64_t out_features, int64_t in_features, int64_t group_size) {
  if (out_features % kAwqGemmOutputsPerWord != 0) {
    return TensorFault(source, tensors.qweight, "out_features is ", out_features,
                       "; expected a multiple of 8 for awq-gemm");
  }
  const absl::StatusOr<int64_t> groups =
      GroupsOfRow(source, tensors.scales, 0, in_features, group_size, /*any_group=*/false);
  if (!groups.ok()) return groups.status();
  const int64_t words = out_features / kAwqGemmOutputsPerWord;
  return CheckTensors(
      source,
      {{&tensors.qweight, DType::kI32, {in_features, words}},
       {&tensors.qzeros, DType::kI32, {*groups, words}},
       {&tensors.scales, std::nullopt, {*groups, out_features}}},
      absl::StrCat("[", out_features, ", ", in_features, "] in groups of ", in_features / *groups));
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
