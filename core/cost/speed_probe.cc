#include "core/cost/speed_probe.h"

#include <cstdint>
#include <cstring>
#include <utility>

#include "core/kernels/forward_kernels.h"
#include "core/kernels/round_kernels.h"
#include "core/linalg/gemm.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

constexpr int64_t kWidth = 512;
constexpr int64_t kCopiedRows = 10'000;  // They take 20 MB.
// So many rows of errors are multiplied by a Gram, and so many of a calibration row by a slice of a
// weight.
constexpr int64_t kRows = 64;
constexpr int64_t kTokens = 256;
constexpr int64_t kOutputs = 128;

// Operations of one element of Vector: kSilu of work_operations.h, and kNearest times the rounding
// kernel, which takes not quite 1.
constexpr int kNearest = 8;
constexpr double kElement = 3.5 + 0.85 * kNearest;

}  // namespace

SpeedProbe::SpeedProbe() : from_(kCopiedRows, kWidth), to_(kCopiedRows, kWidth) {
  uint32_t state = 12345;  // Its numbers are known to no compiler.
  for (int64_t i = 0; i < kCopiedRows * kWidth; ++i) {
    state = state * 1664525u + 1013904223u;
    from_.data()[i] = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  bf16_.resize(kTokens * kWidth);
  for (size_t i = 0; i < bf16_.size(); ++i) bf16_[i] = F32ToBF16(from_.data()[i]);
  // Without a factor Bf16 fails, and says so.
  absl::StatusOr<Bf16Factor> weight = Bf16Factor::Create(bf16_.data(), kOutputs, kWidth, kWidth);
  if (weight.ok()) weight_ = *std::move(weight);
}

double SpeedProbe::Bf16() {
  constexpr int kRepeats = 32;
  if (weight_.n() == 0) return 0;
  for (int i = 0; i < kRepeats; ++i) {
    const bool done =
        weight_.Multiply(kRows, bf16_.data(), kWidth, 0.0f, to_.data(), kOutputs).ok() &&
        weight_.Multiply(kTokens, bf16_.data(), kWidth, 0.0f, to_.data(), kOutputs).ok();
    if (!done) return 0;
  }
  return 2.0 * kRepeats * kWidth * kOutputs * (kRows + kTokens);
}

double SpeedProbe::F32() {
  constexpr int kRepeats = 16;
  const float* weight = from_.Row(kTokens);
  for (int i = 0; i < kRepeats; ++i) {
    const bool done = salient::Gemm(Op::kPlain, Op::kPlain, kRows, kWidth, kWidth, from_.data(),
                                    kWidth, weight, kWidth, 0.0f, to_.data(), kWidth)
                          .ok() &&
                      salient::Gemm(Op::kPlain, Op::kTransposed, kTokens, kOutputs, kWidth,
                                    from_.data(), kWidth, weight, kWidth, 0.0f, to_.data(), kWidth)
                          .ok();
    if (!done) return 0;
  }
  return 2.0 * kRepeats * kWidth * (kRows * kWidth + kTokens * kOutputs);
}

double SpeedProbe::Vector() {
  constexpr int64_t kCount = 1 << 14;
  constexpr int kRepeats = 100;
  const float* x = from_.data();
  float* y = to_.data();
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    SiluProduct(x, x + kCount, kCount, y);
    for (int i = 0; i < kNearest; ++i) NearestErrors(x, kCount, {0.125f, 8, 15}, y + kCount);
  }
  return kElement * kCount * kRepeats;
}

double SpeedProbe::Copy() {
  constexpr int64_t kFloats = kCopiedRows * kWidth;
  std::memcpy(to_.data(), from_.data(), kFloats * sizeof(float));
  return kFloats * sizeof(float);
}

}  // namespace salient
