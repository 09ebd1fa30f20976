// Says what the parameters of roundings and scales may be; the least is 0 for all of them.
#ifndef SALIENT_CORE_METHOD_BOUNDS_H_
#define SALIENT_CORE_METHOD_BOUNDS_H_

namespace salient {

inline constexpr int kMostDescentSweeps = 64;
inline constexpr int kMostRefits = 16;
// Damping is a share of the mean diagonal.
inline constexpr float kMostDamping = 10.0f;
inline constexpr float kMostShrinkage = 1.0f;
inline constexpr double kMostAlpha = 1.0;

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_BOUNDS_H_
