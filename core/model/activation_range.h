// Tells how far activations reach, beside what F16 holds: engines that compute a model in float16
// give NaN where its residual stream passes that, and nothing that is computed in f32 shows it.
#ifndef SALIENT_CORE_MODEL_ACTIVATION_RANGE_H_
#define SALIENT_CORE_MODEL_ACTIVATION_RANGE_H_

#include <string>

#include "core/tensor/matrix.h"

namespace salient {

inline constexpr float kLargestF16 = 65504;

struct ActivationRange {
  float largest = 0;  // It is a magnitude.
  // It is e.g. "the residual stream leaving model.layers.3"; empty if nothing was seen.
  std::string where;

  // Takes over a larger one. Returns whether it is.
  bool Add(const ActivationRange& other);

  bool PassesF16() const { return largest > kLargestF16; }
  // Returns whether it does, or may on other text. Activations that stand out do so at few tokens
  // and channels and differ little from text to text; a factor of 2 covers that and rounding.
  bool NearsF16() const { return largest > kLargestF16 / 2; }

  // Returns "activations reach 128675 in the residual stream leaving model.layers.3, and F16 holds
  // 65504 at most".
  std::string Describe() const;
};

// Returns the largest of all; the largest f32 if one is no number or infinite.
float LargestMagnitude(const Matrix& activations);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_ACTIVATION_RANGE_H_
