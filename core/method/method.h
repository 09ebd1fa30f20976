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
  int64_t width = 256;  // Columns are rounded so many together; 256 or 128 divide the Gram's block.
  float shrinkage = 0.5f;  // It multiplies off-diagonal entries; 1 over-fits the calibration text.
  float damping = 0.01f;   // This share of the mean diagonal is added before factoring.
  // So many sweeps of coordinate descent precede each refit, if there is one.
  int descent_sweeps = 4;
  int refits = 2;  // Group scales are refitted by least squares so often.
};

// Parameters of round_gptq.
struct RoundGptqParams {
  float damping = 0.2f;   // This share of the mean diagonal is added before factoring.
  bool act_order = true;  // Columns are rounded by falling diagonal; groups stay where they are.
  // So many sweeps of coordinate descent precede each refit, if there is one.
  int descent_sweeps = 4;
  int refits = 2;  // Group scales are refitted by least squares so often.
};

// Parameters of scale_smoothquant.
struct ScaleSmoothQuantParams {
  std::optional<double> alpha;  // It is 0 to 1; without it, it is searched on the token sample.
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
