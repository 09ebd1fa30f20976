#include "core/model/activation_range.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace salient {

bool ActivationRange::Add(const ActivationRange& other) {
  if (!(other.largest > largest)) return false;
  *this = other;
  return true;
}

std::string ActivationRange::Describe() const {
  return absl::StrCat("activations reach ", largest, " in ", where, ", and F16 holds ", kLargestF16,
                      " at most");
}

float LargestMagnitude(const Matrix& activations) {
  // Magnitudes are in the order of their bits, whose largest compilers find in vectors.
  uint32_t largest = 0;
  const float* values = activations.data();
  for (int64_t i = 0; i < activations.rows() * activations.cols(); ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(values[i]) & 0x7FFFFFFF);
  }
  return std::bit_cast<float>(std::min(largest, std::bit_cast<uint32_t>(FLT_MAX)));
}

}  // namespace salient
