#include "core/model/blocks/rotary.h"

#include <cmath>

#include "core/kernels/forward_kernels.h"

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
  RotateHeads(cosines_.Row(position), sines_.Row(position), cosines_.cols(), heads, values);
}

}  // namespace salient
