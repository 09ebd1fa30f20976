#include "core/model/blocks/rotary.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

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

// Keeps what turns more than beta_fast times within the original positions, divides by factor what
// turns less than beta_slow times, and interpolates between by channel (Peng et al., "YaRN",
// arXiv:2309.00071, with the channels' bounds as transformers rounds them).
class Yarn {
 public:
  explicit Yarn(const RopeConfig& rope) : factor_(rope.factor) {
    const auto channel = [&](double turns) {
      const double positions = static_cast<double>(rope.original_positions);
      return static_cast<double>(rope.RotaryDim()) * std::log(positions / (turns * kTwoPi)) /
             (2 * std::log(rope.theta));
    };
    low_ = channel(rope.yarn->beta_fast);
    high_ = channel(rope.yarn->beta_slow);
    if (rope.yarn->truncate) {
      low_ = std::floor(low_);
      high_ = std::ceil(high_);
    }
    low_ = std::max(low_, 0.0);
    high_ = std::min(high_, static_cast<double>(rope.RotaryDim() - 1));
    if (low_ == high_) high_ += 0.001;
  }

  double Change(size_t channel, double frequency) const {
    const double ramp =
        std::clamp((static_cast<double>(channel) - low_) / (high_ - low_), 0.0, 1.0);
    return frequency / factor_ * ramp + frequency * (1 - ramp);
  }

 private:
  double factor_;
  double low_;
  double high_;
};

double ThetaOf(const RopeConfig& rope, int64_t tokens) {
  if (rope.type != RopeConfig::Type::kDynamic || tokens <= rope.positions) return rope.theta;
  const double n = static_cast<double>(rope.RotaryDim());
  const double longer = static_cast<double>(tokens) / static_cast<double>(rope.positions);
  return rope.theta * std::pow(rope.factor * longer - (rope.factor - 1), n / (n - 2));
}

}  // namespace

std::optional<int64_t> LongestPlainRow(const RopeConfig& rope) {
  switch (rope.type) {
    case RopeConfig::Type::kDynamic:
      return rope.positions;
    case RopeConfig::Type::kLongRope:
      return rope.original_positions;
    default:
      return std::nullopt;
  }
}

std::vector<double> RotaryFrequencies(const RopeConfig& rope, int64_t tokens) {
  const double theta = ThetaOf(rope, tokens);
  std::vector<double> frequencies;
  for (int64_t i = 0; i < rope.RotaryDim(); i += 2) {
    const double exponent = -static_cast<double>(i) / static_cast<double>(rope.RotaryDim());
    frequencies.push_back(std::pow(theta, exponent));
  }
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double& frequency = frequencies[i];
    switch (rope.type) {
      case RopeConfig::Type::kDefault:
      case RopeConfig::Type::kDynamic:
        break;
      case RopeConfig::Type::kLinear:
        frequency /= rope.factor;
        break;
      case RopeConfig::Type::kLlama3:
        frequency = Stretch(*rope.llama3, frequency);
        break;
      case RopeConfig::Type::kYarn:
        frequency = Yarn(rope).Change(i, frequency);
        break;
      case RopeConfig::Type::kLongRope: {
        const bool is_long = tokens > rope.original_positions;
        frequency /= (is_long ? rope.long_factors : rope.short_factors)[i];
        break;
      }
    }
  }
  return frequencies;
}

RotaryTable::RotaryTable(const RopeConfig& rope, int64_t tokens, int64_t positions)
    : head_dim_(rope.head_dim),
      cosines_(positions, rope.RotaryDim() / 2),
      sines_(positions, rope.RotaryDim() / 2) {
  const std::vector<double> frequencies = RotaryFrequencies(rope, tokens);
  for (int64_t position = 0; position < positions; ++position) {
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      cosines_.Row(position)[i] = static_cast<float>(std::cos(angle) * rope.attention_factor);
      sines_.Row(position)[i] = static_cast<float>(std::sin(angle) * rope.attention_factor);
    }
  }
  if (rope.query_beta == 0) return;
  for (int64_t position = 0; position < positions; ++position) {
    const auto times = static_cast<double>(position / rope.original_positions);
    query_factors_.push_back(static_cast<float>(1 + rope.query_beta * std::log(1 + times)));
  }
}

void RotaryTable::Turn(int64_t position, int64_t heads, float* values) const {
  if (2 * cosines_.cols() == head_dim_) {
    RotateHeads(cosines_.Row(position), sines_.Row(position), cosines_.cols(), heads, values);
    return;
  }
  for (int64_t head = 0; head < heads; ++head) {
    RotateHeads(cosines_.Row(position), sines_.Row(position), cosines_.cols(), 1,
                values + head * head_dim_);
  }
}

void RotaryTable::ScaleQueries(int64_t position, int64_t heads, float* values) const {
  if (query_factors_.empty()) return;
  Scale(values, query_factors_[static_cast<size_t>(position)], heads * head_dim_, values);
}

int64_t RotaryTable::MemoryBytes(const RopeConfig& rope, int64_t positions) {
  const int64_t factors = rope.query_beta == 0 ? 0 : 1;
  return positions * (rope.RotaryDim() + factors) * static_cast<int64_t>(sizeof(float));
}

}  // namespace salient
