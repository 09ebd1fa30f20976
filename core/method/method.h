// Quantizing is three choices: scale, range, rounding. Any combination works; each choice is
// one function on the same inputs (weights, statistics, format).
#ifndef SALIENT_CORE_METHOD_METHOD_H_
#define SALIENT_CORE_METHOD_METHOD_H_

#include <cstdint>

namespace salient {

enum class ScaleChoice { kNone, kAwq };
enum class RangeChoice { kMinMax, kClip };
enum class RoundingChoice { kNearest, kBlock };

// Parameters of round_block.
struct RoundBlockParams {
  int64_t width = 256;     // columns rounded together: 256 or 128, divides the Gram's block
  float shrinkage = 0.5f;  // factor on off-diagonal entries; 1 over-fits the calibration text
  float damping = 0.01f;   // share of the mean diagonal added before factoring
  int descent_sweeps = 4;  // coordinate descent sweeps before each refit; 0: none
  int refits = 2;          // least-squares refits of the group scales; 0: none
};

struct Method {
  ScaleChoice scale = ScaleChoice::kAwq;
  RangeChoice range = RangeChoice::kClip;
  RoundingChoice rounding = RoundingChoice::kBlock;
  RoundBlockParams block;
  // Follow AutoAWQ's candidates, quantizer, tie rule and clip grid instead of our own.
  bool autoawq = false;
};

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_METHOD_H_
