// The products of the forward pass: activations times a weight, a slice of outputs at a time, so
// that no f32 copy of a whole weight exists.
#ifndef SALIENT_CORE_MODEL_PROJECTION_H_
#define SALIENT_CORE_MODEL_PROJECTION_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/parallel/executor.h"
#include "core/parallel/tiles.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Holds rows of a Linear as the products of many calibration rows read it. For bf16 every slice is
// rounded and laid out once, by Prepare; for f32 it is read where it lies. It is movable; borrows
// the Linear. Multiply is thread-safe, and so is Prepare of different slices.
class PreparedLinear {
 public:
  PreparedLinear() = default;
  // Takes rows [first_row, first_row + rows). Slices are multiples of `unit` outputs, which divides
  // `rows`.
  PreparedLinear(const StoredLinear& linear, int64_t first_row, int64_t rows, ComputeDType compute,
                 int64_t unit);

  RowTiles Slices() const { return RowTiles(rows_, slice_); }
  int64_t out_features() const { return rows_; }
  const InputRounding& input() const { return linear_->input; }

  // Returns INTERNAL if the matrix library refuses.
  absl::Status Prepare(int64_t slice);

  // Rows [first_token, first_token + tokens) of `input`, rounded already, times the slice
  // transposed, plus the bias: out [tokens, outputs of the slice], without gaps: bf16 products are
  // many times slower into a part of a wider matrix. The bits depend on values and shape alone.
  absl::Status Multiply(const Activations& input, int64_t first_token, int64_t tokens,
                        int64_t slice, float* out) const;

  // Returns the bytes that Prepare keeps of a weight, and that a Multiply of `tokens` allocates at
  // most.
  static int64_t PreparedBytes(ComputeDType compute, int64_t out_features, int64_t in_features);
  static int64_t MultiplyBytes(ComputeDType compute, int64_t tokens, int64_t in_features);

 private:
  const StoredLinear* linear_ = nullptr;
  int64_t first_row_ = 0;
  int64_t rows_ = 0;
  ComputeDType compute_ = ComputeDType::kF32;
  int64_t slice_ = 1;  // It counts outputs.
  std::vector<Bf16Factor> factors_;
};

// Outputs of a slice, unless a unit is larger, and the tokens that are multiplied with one at a
// time: both stay in a core's cache together.
int64_t SliceOutputs(ComputeDType compute);
int64_t TokensAtATime(ComputeDType compute);

// Returns rows [first, first + count) of a weight as f32: where they lie, if they are F32, or in
// `wide`.
const float* WidenedRows(const WeightView& weight, int64_t first, int64_t count, Matrix& wide);

// Returns input [tokens, in_features] times weight [out_features, in_features] transposed, in f32:
// [tokens, out_features]. The bits are the same for any executor. Its errors are those of the
// executor.
absl::StatusOr<Matrix> Project(const Matrix& input, const WeightView& weight, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_PROJECTION_H_
