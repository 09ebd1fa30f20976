// Rounding to nearest with a few input channels left in F16: the study that AWQ begins with (Lin et
// al., arXiv:2306.00978, section 3.1 and table 1). It shows which channels matter; no format stores
// its mixture of types.
#ifndef SALIENT_CORE_METHOD_SALIENT_FP16_H_
#define SALIENT_CORE_METHOD_SALIENT_FP16_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Says which channels stay.
enum class SalientChoice {
  kNone,        // None is kept: it is plain round-to-nearest.
  kActivation,  // Those with the largest mean |x_j| are kept.
  kWeight,      // Those with the largest norm of column j of W are kept.
  kRandom,      // Any are kept.
};

struct SalientFp16Params {
  SalientChoice choice = SalientChoice::kNone;
  double share = 0.01;  // It is a share of in_features, 0 to 1.
  uint64_t seed = 0;    // The random choice begins with it.
  int64_t linear = 0;   // Each Linear has a number of its own: they choose apart at random.
};

// share * in_features, ties to even, but at least 1 unless share is 0.
int64_t SalientCount(double share, int64_t in_features);

// The channels of `weight` [O, I] that stay, ascending; of equals the first. By activation they are
// the same for all Linears that share `statistics`. At random: those with the smallest SampleHash
// of (seed, linear, channel), whatever the order of work. `weight` must be finite.
//
// INVALID_ARGUMENT naming the field for a share outside 0 to 1 and for statistics of other inputs.
absl::StatusOr<std::vector<int64_t>> SalientChannels(const WeightView& weight,
                                                     const Statistics& statistics,
                                                     const SalientFp16Params& params);

// W' [O, I] as a reader would decode it: weights of the channels `kept`, distinct and below I, in
// F16; the others to nearest in `format` as RangeMinMax and RoundNearest do, ranges over the others
// alone.
//
// INVALID_ARGUMENT naming the field for kWholeTensor or a group size that does not divide I; naming
// row and group for a scale that its dtype cannot hold; naming row and column for a kept weight
// that F16 cannot hold (both IsNonFinite). Safe to call concurrently.
absl::StatusOr<Matrix> RoundSalientFp16(const WeightView& weight, absl::Span<const int64_t> kept,
                                        const WeightFormat& format);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SALIENT_FP16_H_
