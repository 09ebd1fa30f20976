// Quantizing is three choices: scale, range, rounding. Any combination works; each choice is
// one function on the same inputs (weights, statistics, format).
#ifndef SALIENT_CORE_METHOD_METHOD_H_
#define SALIENT_CORE_METHOD_METHOD_H_

#include <cstdint>
#include <optional>

namespace salient {

enum class ScaleChoice { kNone, kAwq, kSmoothQuant };
enum class RangeChoice { kMinMax, kClip };
enum class RoundingChoice { kNearest, kBlock, kGptq };

// Parameters of round_block.
struct RoundBlockParams {
  int64_t width = 256;     // columns rounded together: 256 or 128, divides the Gram's block
  float shrinkage = 0.5f;  // factor on off-diagonal entries; 1 over-fits the calibration text
  float damping = 0.01f;   // share of the mean diagonal added before factoring
  int descent_sweeps = 4;  // coordinate descent sweeps before each refit, if there is one; 0: none
  int refits = 2;          // least-squares refits of the group scales; 0: none
};

// Parameters of round_gptq.
struct RoundGptqParams {
  float damping = 0.2f;    // share of the mean diagonal added before factoring
  bool act_order = true;   // columns by falling diagonal; groups stay where they are
  int descent_sweeps = 4;  // coordinate descent sweeps before each refit, if there is one; 0: none
  int refits = 2;          // least-squares refits of the group scales; 0: none
};

// Parameters of scale_smoothquant.
struct ScaleSmoothQuantParams {
  std::optional<double> alpha;  // 0 to 1; nullopt: searched on the token sample
};

struct Method {
  ScaleChoice scale = ScaleChoice::kAwq;
  RangeChoice range = RangeChoice::kClip;
  RoundingChoice rounding = RoundingChoice::kBlock;
  RoundBlockParams block;
  // Follow AutoAWQ's candidates, quantizer, tie rule and clip grid instead of our own.
  bool autoawq = false;
  RoundGptqParams gptq = {};
  ScaleSmoothQuantParams smoothquant = {};
};

// Returns whether the statistics it works on have to keep the whole X^T X.
inline bool NeedsWholeGram(const Method& method) {
  return method.rounding == RoundingChoice::kGptq;
}

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_METHOD_H_
