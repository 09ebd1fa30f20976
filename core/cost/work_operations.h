// Says what elementwise and latency-bound work costs, in operations of SpeedProbe::Vector an
// element. They were measured against it.
#ifndef SALIENT_CORE_COST_WORK_OPERATIONS_H_
#define SALIENT_CORE_COST_WORK_OPERATIONS_H_

namespace salient::operations {

inline constexpr double kWiden = 1;    // It takes 16 bits to f32 or to the layout of a factor.
inline constexpr double kSoftmax = 4;  // It is an exponential, the largest and the sum.
inline constexpr double kSilu = 3.5;
inline constexpr double kNorm = 2;
inline constexpr double kRotate = 2;
inline constexpr double kAdd = 1;         // It is a pass over f32 in memory.
inline constexpr double kAddRounded = 4;  // It adds to a statistic's f64 total.
// It lays out a token's value and takes its sum, sum |x| and max |x|.
inline constexpr double kLaySums = 5;
inline constexpr double kSigns = 1;
inline constexpr double kRound = 3;  // It is scale, range, code and error.
// A weight that is scaled costs this, and the error's own square.
inline constexpr double kScaled = 3.5;
inline constexpr double kDot = 0.6;
inline constexpr double kSketchSquares = 4;  // It is (sum D S)^2 and its parts, in f64.
inline constexpr double kDecode = 6;         // It turns codes to errors, or packs them.
inline constexpr double kRelativeWeight = 8;
// It is that of a weight in one sweep, most of which change nothing.
inline constexpr double kDescent = 5;
// It moves an entry of a matrix whose rows and columns change places.
inline constexpr double kGather = 3;
// It adds a row of H for each code that descent changes.
inline constexpr double kChanged = 0.03;
inline constexpr double kFactor = 3;  // It is that share of n^3 / 6 of a factorization in f64.
// It gives tasks to the workers once and waits for them.
inline constexpr double kHandOver = 60000;
inline constexpr double kExponential = 30;  // It is that of a logit, in f64.
inline constexpr double kRead = 14;  // It reads a weight as it comes from the system's cache.
// It is that of a weight rounded or unpacked as it is read, and checked.
inline constexpr double kReadDecoded = 40;

}  // namespace salient::operations

#endif  // SALIENT_CORE_COST_WORK_OPERATIONS_H_
