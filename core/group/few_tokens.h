// Says how much calibration is too little; no other place does.
#ifndef SALIENT_CORE_GROUP_FEW_TOKENS_H_
#define SALIENT_CORE_GROUP_FEW_TOKENS_H_

#include <cstdint>

namespace salient {

// With fewer calibration tokens than this, scale, range and rounding are fitted to them alone, and
// the result is worse than plain round-to-nearest on any other text (tests/interop/choices.md has
// the measurement), so that is kept.
inline constexpr int64_t kFewestTokens = 48;

// With fewer than a share of the in_features, directions of the input are left that no token shows:
// the result is better than round-to-nearest, but worse than it could be.
inline constexpr int64_t kFewTokensDivisor = 4;

inline bool TooFewTokens(int64_t tokens) { return tokens < kFewestTokens; }
inline bool FewTokens(int64_t tokens, int64_t in_features) {
  return tokens < in_features / kFewTokensDivisor;
}

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_FEW_TOKENS_H_
