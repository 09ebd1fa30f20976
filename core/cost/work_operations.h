// Says what elementwise and latency-bound work costs, in operations of SpeedProbe::Vector an
// element. They were measured against it.
#ifndef SALIENT_CORE_COST_WORK_OPERATIONS_H_
#define SALIENT_CORE_COST_WORK_OPERATIONS_H_

namespace salient::operations {

inline constexpr double kWiden = 1;    // 16 bits to f32 or to the layout of a factor
inline constexpr double kSoftmax = 4;  // an exponential, the largest, the sum
inline constexpr double kSilu = 3.5;
inline constexpr double kNorm = 2;
inline constexpr double kRotate = 2;
inline constexpr double kAdd = 1;         // a pass over f32 in memory
inline constexpr double kAddRounded = 4;  // a statistic's f64 total
inline constexpr double kLaySums = 5;     // a token's value laid out; sum, sum |x|, max |x|
inline constexpr double kSigns = 1;
inline constexpr double kRound = 3;  // scale, range, code, error
// A weight that is scaled costs this, and the error's own square.
inline constexpr double kScaled = 3.5;
inline constexpr double kDot = 0.6;
inline constexpr double kSketchSquares = 4;  // (sum D S)^2 and its parts, in f64
inline constexpr double kDecode = 6;         // codes to errors, packing
inline constexpr double kRelativeWeight = 8;
inline constexpr double kDescent = 5;  // of a weight in one sweep, most of which change nothing
inline constexpr double kGather = 3;   // an entry of a matrix whose rows and columns change places
inline constexpr double kChanged = 0.03;    // adding a row of H for each code that descent changes
inline constexpr double kFactor = 3;        // of n^3 / 6 of a factorization in f64
inline constexpr double kHandOver = 60000;  // giving tasks to the workers once and waiting for them
inline constexpr double kExponential = 30;  // in f64, of a logit
inline constexpr double kRead = 14;         // a weight as it comes from the system's cache
// A weight rounded or unpacked as it is read, and checked.
inline constexpr double kReadDecoded = 40;

}  // namespace salient::operations

#endif  // SALIENT_CORE_COST_WORK_OPERATIONS_H_
