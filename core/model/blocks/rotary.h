// Rotary position embedding (Su et al., "RoFormer", arXiv:2104.09864) in the rotate-half form of
// Hugging Face checkpoints: channel i turns with channel i + head_dim / 2.
#ifndef SALIENT_CORE_MODEL_BLOCKS_ROTARY_H_
#define SALIENT_CORE_MODEL_BLOCKS_ROTARY_H_

#include <cstdint>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/tensor/matrix.h"

namespace salient {

// Returns [head_dim / 2] radians a position: rope_theta^(-2 i / head_dim), stretched as
// config.llama3_rope says.
std::vector<double> RotaryFrequencies(const ModelConfig& config);

// Is immutable and thread-safe.
class RotaryTable {
 public:
  // Makes the table for positions [0, positions).
  RotaryTable(const ModelConfig& config, int64_t positions);

  int64_t positions() const { return cosines_.rows(); }

  // Turns `heads` heads [heads, head_dim] of one token in place.
  void Turn(int64_t position, int64_t heads, float* values) const;

 private:
  Matrix cosines_;  // They are [positions, head_dim / 2].
  Matrix sines_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_ROTARY_H_
