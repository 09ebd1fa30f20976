// d H d^T without its diagonal, for many rows d in bfloat16.
#ifndef SALIENT_CORE_LINALG_QUADRATIC_FORM_H_
#define SALIENT_CORE_LINALG_QUADRATIC_FORM_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// H [n, n] is symmetric. Columns are cut into pieces; of the products between two pieces one of
// the two equal halves is computed and counts twice. The diagonal is left out, because it is where
// rounding to bfloat16 would add up: who knows d in f32 adds sum_j H_jj d_j^2 more precisely.
//
// Rows d come as their pieces one after the other, each [rows, columns of the piece] without gaps:
// oneDNN multiplies fast what has none.
//
// Owns a rounded copy of H. Immutable; thread-safe.
class QuadraticForm {
 public:
  // From H; `piece` columns at a time, each a task. CANCELLED from the executor.
  static absl::StatusOr<QuadraticForm> Create(MatrixView h, int64_t piece, Executor& executor);

  // sums[t] += 2 sum_{i < j} d_ti H_ij d_tj. `product` is scratch of rows * n floats.
  absl::Status Add(int64_t rows, const uint16_t* d, float* product, double* sums) const;

  // Multiply-adds a row costs.
  int64_t ProductsPerRow() const;
  static int64_t MemoryBytes(int64_t n, int64_t piece);

 private:
  // Factor i has rows from piece i on, and the columns of piece i.
  std::vector<Bf16Factor> factors_;
};

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_QUADRATIC_FORM_H_
