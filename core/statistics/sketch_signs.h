// Random bits that belong to a token, not to the order in which tokens come: counter-based,
// so any machine that sees (calibration row, position) draws the same.
//
// The generator is a chain of splitmix64 finalizers (Steele, Lea, Flood: Fast splittable
// pseudorandom number generators, OOPSLA 2014), one for each part of the key.
#ifndef SALIENT_CORE_STATISTICS_SKETCH_SIGNS_H_
#define SALIENT_CORE_STATISTICS_SKETCH_SIGNS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace salient {

// Fills `signs` [sketch_rows] with the column of R that belongs to this token: entry k is +1
// or -1 with equal chance, independent over k, tokens and seeds. One 64-bit draw serves 64
// sketch rows, so that the first rows do not depend on how many there are.
void FillSketchSigns(uint64_t seed, int64_t calibration_row, int64_t position,
                     absl::Span<float> signs);

// Fills the same columns for `tokens` positions from first_position on, side by side: signs
// [sketch_rows, depth], BF16 or, if `wide`, f32; entries from `tokens` on are 0. Adds the sums of
// its rows to row_sums [sketch_rows].
void FillSketchTile(uint64_t seed, int64_t calibration_row, int64_t first_position, int64_t tokens,
                    int64_t depth, bool wide, void* signs, absl::Span<double> row_sums);

// Uniform in 64 bits and independent of the signs: the key of the token sample.
uint64_t SampleHash(uint64_t seed, int64_t calibration_row, int64_t position);

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_SKETCH_SIGNS_H_
