// The codes whose words other packers wrote, and looks into packed tensors.
#ifndef SALIENT_TESTS_CORE_PACK_PACKING_EXAMPLE_H_
#define SALIENT_TESTS_CORE_PACK_PACKING_EXAMPLE_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"

namespace salient::testing {

// Makes in 16, out 8, group 8: q[k][n] = (k + 3n) mod 16, z[0] = 1..8, z[1] = 8..15, s[g][n] =
// 2^-(2 + g + n mod 4).
inline AffineGroups PackingExample() {
  AffineGroups groups;
  groups.out_features = 8;
  groups.in_features = 16;
  groups.format.group_size = 8;
  for (int n = 0; n < 8; ++n) {
    for (int k = 0; k < 16; ++k) groups.codes.push_back(static_cast<uint8_t>((k + 3 * n) % 16));
    for (int g = 0; g < 2; ++g) {
      groups.scales.push_back(std::ldexp(1.0f, -(2 + g + n % 4)));
      groups.zero_points.push_back(static_cast<uint8_t>((g == 0 ? 1 : 8) + n));
    }
  }
  return groups;
}

// Codes, scales and zero points (at least 1) at random.
inline AffineGroups RandomGroups(int64_t outputs, int64_t inputs, const WeightFormat& format,
                                 uint64_t seed) {
  std::mt19937_64 random(seed);
  AffineGroups groups;
  groups.out_features = outputs;
  groups.in_features = inputs;
  groups.format = format;
  const auto codes = static_cast<uint64_t>(format.MaxCode()) + 1;
  for (int64_t i = 0; i < outputs * inputs; ++i) {
    groups.codes.push_back(static_cast<uint8_t>(random() % codes));
  }
  for (int64_t i = 0; i < outputs * groups.Groups(); ++i) {
    groups.scales.push_back(RoundToF16(std::ldexp(1.0f + static_cast<float>(random() % 999), -14)));
    groups.zero_points.push_back(
        static_cast<uint8_t>(format.symmetric ? codes / 2 : 1 + random() % (codes - 1)));
  }
  return groups;
}

inline std::vector<uint32_t> Words(const NamedTensor& tensor) {
  std::vector<uint32_t> words(tensor.data.size() / 4);
  std::memcpy(words.data(), tensor.data.data(), tensor.data.size());
  return words;
}

inline std::vector<float> Floats(const NamedTensor& tensor) {
  std::vector<float> values(tensor.data.size() / static_cast<size_t>(SizeOf(tensor.dtype)));
  WidenToF32(tensor.dtype, tensor.data.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

// Returns what the groups decode to.
inline std::vector<float> Decoded(const AffineGroups& groups) {
  std::vector<float> values(static_cast<size_t>(groups.out_features * groups.in_features));
  for (int64_t n = 0; n < groups.out_features; ++n) {
    groups.DecodeRow(n, values.data() + n * groups.in_features);
  }
  return values;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_PACK_PACKING_EXAMPLE_H_
