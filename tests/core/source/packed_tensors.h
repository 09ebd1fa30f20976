// Packed tensors made bit by bit, with nothing of the packers.
#ifndef SALIENT_TESTS_CORE_SOURCE_PACKED_TENSORS_H_
#define SALIENT_TESTS_CORE_SOURCE_PACKED_TENSORS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"

namespace salient::testing {

// This Linear of pocket-llama is packed, and has this shape.
inline constexpr char kModule[] = "model.layers.1.self_attn.k_proj";
inline constexpr int64_t kOut = 128;
inline constexpr int64_t kIn = 256;

// Says what is stored: code, zero point and scale of output n and input k or group g.
inline int Code(int64_t n, int64_t k, int bits) {
  return static_cast<int>((5 * k + 3 * n) % (1 << bits));
}
inline int Zero(int64_t n, int64_t g, int bits) {
  return 1 + static_cast<int>((n + 7 * g) % ((1 << bits) - 1));
}
inline float Scale(int64_t n, int64_t g) {
  return std::ldexp(1.0f, static_cast<int>(-(2 + g + n % 4)));
}

// A stream of bits: code i at bits b i .. b (i + 1), across words.
inline std::vector<uint32_t> Stream(int64_t count, int bits,
                                    const std::function<int(int64_t)>& code) {
  std::vector<uint32_t> words(static_cast<size_t>((count * bits + 31) / 32));
  for (int64_t i = 0; i < count * bits; ++i) {
    const auto bit = static_cast<uint32_t>(code(i / bits) >> (i % bits)) & 1u;
    words[static_cast<size_t>(i / 32)] |= bit << (i % 32);
  }
  return words;
}

template <class T>
NamedTensor Make(const std::string& name, DType dtype, std::vector<int64_t> shape,
                 const std::vector<T>& values) {
  NamedTensor tensor{name, dtype, std::move(shape), {}};
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  tensor.data.assign(bytes, bytes + values.size() * sizeof(T));
  return tensor;
}

// Makes [rows, columns] of value(row, column).
inline NamedTensor MakeScales(const std::string& name, DType dtype, int64_t rows, int64_t columns,
                              const std::function<float(int64_t, int64_t)>& value) {
  std::vector<float> wide;
  std::vector<uint16_t> half;
  for (int64_t i = 0; i < rows * columns; ++i) {
    wide.push_back(value(i / columns, i % columns));
    half.push_back(dtype == DType::kF16 ? F32ToF16(wide.back()) : F32ToBF16(wide.back()));
  }
  if (dtype == DType::kF32) return Make(name, dtype, {rows, columns}, wide);
  return Make(name, dtype, {rows, columns}, half);
}

// Says where the words of row i of [rows, words] go: as they are, or turned into [words, rows].
inline NamedTensor MakeWords(const std::string& name, int64_t rows, int64_t count, int bits,
                             bool turned, const std::function<int(int64_t row, int64_t i)>& code) {
  const int64_t words = (count * bits + 31) / 32;
  std::vector<uint32_t> all(static_cast<size_t>(rows * words));
  for (int64_t row = 0; row < rows; ++row) {
    const auto stream = Stream(count, bits, [&](int64_t i) { return code(row, i); });
    for (int64_t w = 0; w < words; ++w) {
      all[static_cast<size_t>(turned ? w * rows + row : row * words + w)] = stream[w];
    }
  }
  return turned ? Make(name, DType::kI32, {words, rows}, all)
                : Make(name, DType::kI32, {rows, words}, all);
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_SOURCE_PACKED_TENSORS_H_
