// Holds what the Linears of a group read, in the dtype that their products take.
#ifndef SALIENT_CORE_MODEL_ACTIVATIONS_H_
#define SALIENT_CORE_MODEL_ACTIVATIONS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "core/tensor/dtype.h"

namespace salient {

// Says what both factors of a product are rounded to; sums are f32 either way.
enum class ComputeDType { kF32, kBF16 };

// Activations of one calibration row have a multiple of this many rows, the last ones unused: a
// GEMM's bits depend on its shape, so the shape is the row's own, and one of few.
inline constexpr int64_t kTokenTile = 64;

inline int64_t PaddedTokens(int64_t tokens) {
  return (tokens + kTokenTile - 1) / kTokenTile * kTokenTile;
}

// Owns [PaddedTokens(tokens), features] of F32 or BF16 at a 64-byte boundary, rows without gaps.
// The rows behind `tokens` are 0, the others not initialised. It is movable.
class Activations {
 public:
  Activations(ComputeDType compute, int64_t tokens, int64_t features)
      : dtype_(compute == ComputeDType::kBF16 ? DType::kBF16 : DType::kF32),
        tokens_(tokens),
        features_(features) {
    const auto row_bytes = static_cast<size_t>(features * SizeOf(dtype_));
    const auto used = row_bytes * static_cast<size_t>(tokens);
    const auto bytes = row_bytes * static_cast<size_t>(PaddedTokens(tokens));
    data_.reset(static_cast<std::byte*>(::operator new(bytes, std::align_val_t(64))));
    std::memset(data_.get() + used, 0, bytes - used);
  }

  DType dtype() const { return dtype_; }
  int64_t tokens() const { return tokens_; }
  int64_t padded_tokens() const { return PaddedTokens(tokens_); }
  int64_t features() const { return features_; }
  const std::byte* data() const { return data_.get(); }

  // Returns row `token`, if they are of that dtype.
  const float* F32(int64_t token) const {
    return reinterpret_cast<const float*>(data_.get()) + token * features_;
  }
  float* MutableF32(int64_t token) {
    return reinterpret_cast<float*>(data_.get()) + token * features_;
  }
  const uint16_t* BF16(int64_t token) const {
    return reinterpret_cast<const uint16_t*>(data_.get()) + token * features_;
  }

  // Calls write(out) with a float* or uint16_t* to `feature` of row `token`, as the dtype is.
  template <class Write>
  void Fill(int64_t token, int64_t feature, const Write& write) {
    const int64_t at = token * features_ + feature;
    if (dtype_ == DType::kBF16) {
      write(reinterpret_cast<uint16_t*>(data_.get()) + at);
    } else {
      write(reinterpret_cast<float*>(data_.get()) + at);
    }
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  DType dtype_;
  int64_t tokens_;
  int64_t features_;
  std::unique_ptr<std::byte[], Free> data_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_ACTIVATIONS_H_
