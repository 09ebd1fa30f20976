// Keeps the tokens of smallest hash while tokens pass by.
#ifndef SALIENT_CORE_STATISTICS_TOKEN_SAMPLER_H_
#define SALIENT_CORE_STATISTICS_TOKEN_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "core/statistics/statistics.h"

namespace salient {

// A heap of at most `sample_tokens` vectors. Which tokens remain, and their values, do not
// depend on the order of the offers. Not thread-safe.
class TokenSampler {
 public:
  explicit TokenSampler(const StatisticsParams& params);

  // Returns where to copy this token's vector [in_features]; nullptr if it is not among the
  // smallest. Valid until the next call. Each token may be offered once. Costs a hash when refused.
  float* Offer(int64_t calibration_row, int64_t position);

  // Gives the sample up, sorted.
  TokenSample Take();

  // Goes on from a sample that Take or MergeSamples returned.
  void Restore(TokenSample sample);

 private:
  struct Slot {
    TokenSample::Key key;
    int64_t index = 0;  // The vector has this place in values_.
    bool operator<(const Slot& other) const { return key < other.key; }
  };

  int64_t capacity_;
  int64_t in_features_;
  uint64_t seed_;
  std::vector<Slot> heap_;     // The largest key is first.
  std::vector<float> values_;  // They are [heap_.size(), in_features].
};

// The sample of the union of what `a` and `b` are samples of.
TokenSample MergeSamples(const TokenSample& a, const TokenSample& b,
                         const StatisticsParams& params);

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_TOKEN_SAMPLER_H_
