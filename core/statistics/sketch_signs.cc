#include "core/statistics/sketch_signs.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "core/kernels/token_kernels.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

// These constants keep the two streams of one seed apart: the first 64 bits of pi and of e.
constexpr uint64_t kSketchStream = 0x3243F6A8885A308Du;
constexpr uint64_t kSampleStream = 0x2B7E151628AED2A6u;

uint64_t Mix(uint64_t x) {
  x += kGolden;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Multiplying by an odd constant before adding the next part keeps small neighbouring keys,
// (row 1, position 0) and (row 0, position 1), from meeting.
uint64_t TokenKey(uint64_t stream, uint64_t seed, int64_t calibration_row, int64_t position) {
  const uint64_t row_key =
      Mix(Mix(seed ^ stream) ^ (static_cast<uint64_t>(calibration_row) * kGolden));
  return Mix(row_key ^ (static_cast<uint64_t>(position) * kGolden));
}

}  // namespace

void FillSketchSigns(uint64_t seed, int64_t calibration_row, int64_t position,
                     absl::Span<float> signs) {
  const uint64_t key = TokenKey(kSketchStream, seed, calibration_row, position);
  for (size_t begin = 0; begin < signs.size(); begin += 64) {
    const uint64_t word = Mix(key + (begin / 64) * kGolden);
    const size_t count = std::min<size_t>(64, signs.size() - begin);
    for (size_t i = 0; i < count; ++i) {
      const uint32_t sign = static_cast<uint32_t>(word >> i) & 1u;
      signs[begin + i] = std::bit_cast<float>(0x3F800000u | sign << 31);
    }
  }
}

void FillSketchTile(uint64_t seed, int64_t calibration_row, int64_t first_position, int64_t tokens,
                    int64_t depth, bool wide, void* signs, absl::Span<double> row_sums) {
  constexpr size_t kPartBits = 16;
  const auto count = static_cast<size_t>(tokens);
  std::vector<uint64_t> keys(count);
  for (size_t t = 0; t < count; ++t) {
    keys[t] =
        TokenKey(kSketchStream, seed, calibration_row, first_position + static_cast<int64_t>(t));
  }
  // Sixteen sketch rows at a time read the same bits of every token's word.
  std::vector<uint16_t> parts(count);
  std::vector<uint16_t> row(static_cast<size_t>(depth));
  for (size_t k = 0; k < row_sums.size(); ++k) {
    if (k % kPartBits == 0) {
      for (size_t t = 0; t < count; ++t) {
        parts[t] = static_cast<uint16_t>(Mix(keys[t] + (k / 64) * kGolden) >> (k % 64));
      }
    }
    const int64_t at = static_cast<int64_t>(k) * depth;
    uint16_t* out = wide ? row.data() : static_cast<uint16_t*>(signs) + at;
    const int64_t negative =
        SignsFromBits(parts.data(), tokens, static_cast<int>(k % kPartBits), out);
    std::fill(out + tokens, out + depth, uint16_t{0});
    if (wide) {
      WidenToF32(DType::kBF16, reinterpret_cast<const std::byte*>(out), depth,
                 static_cast<float*>(signs) + at);
    }
    row_sums[k] += static_cast<double>(tokens - 2 * negative);
  }
}

uint64_t SampleHash(uint64_t seed, int64_t calibration_row, int64_t position) {
  return TokenKey(kSampleStream, seed, calibration_row, position);
}

}  // namespace salient
