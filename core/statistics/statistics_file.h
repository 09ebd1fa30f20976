// Statistics as a safetensors file: calibrate once, quantize many times, on any machine.
//
//   __metadata__: format "pt", salient_statistics "2" (the version), the fields of
//       StatisticsParams and token_count, all as decimal integers
//   sum_exponents, square_exponents I32 [I]   rows I64 [intervals, 2], half-open
//   sum, sum_abs I64 [I]   max_abs F32 [I]
//   gram I64 [I, I], or blocks I64 [blocks, w, w], sketch I64 [r, I], sketch_row_sums F64 [r]
//   sample_tokens I64 [samples, 2] of (calibration row, position)   sample_values F32 [samples, I]
//
// I64 sums are words of core/kernels/binned_sums.h; their frames follow from the exponents and the
// number of rows, see SumValues. The sample's hashes are not stored: they follow from the seed.
#ifndef SALIENT_CORE_STATISTICS_STATISTICS_FILE_H_
#define SALIENT_CORE_STATISTICS_STATISTICS_FILE_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/statistics/statistics.h"

namespace salient {

// Equal statistics give equal bytes. INVALID_ARGUMENT only for what no accumulator makes.
absl::StatusOr<std::vector<std::byte>> SerializeStatistics(const Statistics& statistics);

// Inverts it bit for bit. Trusts nothing: allocates no more than a small multiple of
// `bytes`, and checks versions, params, shapes, ranges, symmetry, signs, row intervals and
// the sample against each other. What it cannot know is whether the sums are true.
//
// Errors: INVALID_ARGUMENT naming `name`, the tensor or field, the value and what was expected.
absl::StatusOr<Statistics> ParseStatistics(absl::string_view name,
                                           absl::Span<const std::byte> bytes);

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_STATISTICS_FILE_H_
