#include "core/model/rotary.h"

#include <cmath>

namespace salient {
namespace {

constexpr double kTwoPi = 6.283185307179586;

double Stretch(const Llama3RopeScaling& scaling, double frequency) {
  const double periods =
      static_cast<double>(scaling.original_max_position_embeddings) * frequency / kTwoPi;
  if (periods < scaling.low_freq_factor) return frequency / scaling.factor;
  if (periods > scaling.high_freq_factor) return frequency;
  const double kept =
      (periods - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - kept) * frequency / scaling.factor + kept * frequency;
}

}  // namespace

std::vector<double> RotaryFrequencies(const ModelConfig& config) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < config.head_dim; i += 2) {
    const double exponent = -static_cast<double>(i) / static_cast<double>(config.head_dim);
    const double frequency = std::pow(config.rope_theta, exponent);
    frequencies.push_back(config.llama3_rope.has_value() ? Stretch(*config.llama3_rope, frequency)
                                                         : frequency);
  }
  return frequencies;
}

RotaryTable::RotaryTable(const ModelConfig& config, int64_t positions)
    : cosines_(positions, config.head_dim / 2), sines_(positions, config.head_dim / 2) {
  const std::vector<double> frequencies = RotaryFrequencies(config);
  for (int64_t position = 0; position < positions; ++position) {
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      cosines_.Row(position)[i] = static_cast<float>(std::cos(angle));
      sines_.Row(position)[i] = static_cast<float>(std::sin(angle));
    }
  }
}

void RotaryTable::Turn(int64_t position, int64_t heads, float* values) const {
  const float* cosines = cosines_.Row(position);
  const float* sines = sines_.Row(position);
  const int64_t half = cosines_.cols();
  for (int64_t head = 0; head < heads; ++head) {
    float* first = values + head * 2 * half;
    float* second = first + half;
    for (int64_t i = 0; i < half; ++i) {
      const float a = first[i];
      const float b = second[i];
      first[i] = a * cosines[i] - b * sines[i];
      second[i] = b * cosines[i] + a * sines[i];
    }
  }
}

}  // namespace salient
