// The products of the forward pass: activations times a stored weight, a slice of output rows
// at a time, so that no f32 copy of a whole weight exists.
#ifndef SALIENT_CORE_MODEL_PROJECTION_H_
#define SALIENT_CORE_MODEL_PROJECTION_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/linalg/executor.h"
#include "core/model/block_weights.h"
#include "core/tensor/matrix.h"

namespace salient {

// What both factors of a product are rounded to; sums are f32 either way.
enum class ComputeDType { kF32, kBF16 };

// Activations of one calibration row have a multiple of this many rows, the last ones unused: a
// GEMM's bits depend on its shape, so the shape is the row's own, and one of few.
inline constexpr int64_t kTokenTile = 64;

inline int64_t PaddedTokens(int64_t tokens) {
  return (tokens + kTokenTile - 1) / kTokenTile * kTokenTile;
}

// Fills out [count, in_features] with rows [first, first + count) of a weight. Called from
// several threads.
using RowReader = absl::FunctionRef<absl::Status(int64_t first, int64_t count, float* out)>;

// input [tokens, in_features] times weight [out_features, in_features] transposed, plus `bias`
// [out_features] if it is not empty: [tokens, out_features]. The same bits for any executor.
// Errors: of `rows` and the executor.
absl::StatusOr<Matrix> Project(const Matrix& input, int64_t out_features, RowReader rows,
                               absl::Span<const float> bias, ComputeDType compute,
                               Executor& executor);

// The same for a Linear in memory.
absl::StatusOr<Matrix> Project(const Matrix& input, const StoredLinear& linear,
                               ComputeDType compute, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_PROJECTION_H_
