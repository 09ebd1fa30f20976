// Rotary position embedding (Su et al., "RoFormer", arXiv:2104.09864) in the rotate-half form of
// Hugging Face checkpoints: channel i turns with channel i + n / 2 of the first n channels of a
// head, which are all of them unless RopeConfig::partial says less.
#ifndef SALIENT_CORE_MODEL_BLOCKS_ROTARY_H_
#define SALIENT_CORE_MODEL_BLOCKS_ROTARY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "core/config/model/rope.h"
#include "core/tensor/matrix.h"

namespace salient {

// Returns [n / 2] radians a position, as they are in a row of `tokens` tokens.
std::vector<double> RotaryFrequencies(const RopeConfig& rope, int64_t tokens);

// Returns the length beyond which the frequencies of a row change with its length, if they do.
std::optional<int64_t> LongestPlainRow(const RopeConfig& rope);

// Is immutable and thread-safe.
class RotaryTable {
 public:
  // Makes the table for positions [0, positions) of a row of `tokens` tokens.
  RotaryTable(const RopeConfig& rope, int64_t tokens, int64_t positions);

  int64_t positions() const { return cosines_.rows(); }

  // Turns `heads` heads [heads, head_dim] of one token in place.
  void Turn(int64_t position, int64_t heads, float* values) const;
  // Multiplies the same of queries by what RopeConfig::query_beta says of the position.
  void ScaleQueries(int64_t position, int64_t heads, float* values) const;

  // Returns the bytes of a table.
  static int64_t MemoryBytes(const RopeConfig& rope, int64_t positions);

 private:
  int64_t head_dim_;
  Matrix cosines_;  // They are [positions, n / 2].
  Matrix sines_;
  std::vector<float> query_factors_;  // They stand by position; empty if all are 1.
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_ROTARY_H_
