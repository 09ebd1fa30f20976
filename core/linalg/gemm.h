// Matrix multiplication on oneDNN: the only file that knows it.
#ifndef SALIENT_CORE_LINALG_GEMM_H_
#define SALIENT_CORE_LINALG_GEMM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/kernels/instruction_set.h"

namespace salient {

enum class Op { kPlain, kTransposed };

// C = op(A) op(B) + beta C, all f32 and row-major: op(A) [m, k], op(B) [k, n], C [m, n].
// lda, ldb, ldc are the row strides of A, B and C as they lie in memory.
//
// Runs on the calling thread. INTERNAL if oneDNN refuses. Thread-safe. The result of a call
// depends on its shape and operands only.
absl::Status Gemm(Op op_a, Op op_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                  const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// Returns whether the CPU multiplies bfloat16. Where it does not, the products below are computed
// in f32: the product of two bfloat16 is exact there, so only the order of the sums differs.
bool MultipliesBf16();

// C = A B^T + beta C for bfloat16 A [m, k] and B [n, k] and f32 C [m, n], all row-major, with row
// strides lda, ldb and ldc; beta is 0 or 1. Sums are f32.
//
// Runs on the calling thread. INTERNAL if oneDNN refuses. Thread-safe. The result of a call
// depends on its shape and operands only.
absl::Status GemmBf16(int64_t m, int64_t n, int64_t k, const uint16_t* a, int64_t lda,
                      const uint16_t* b, int64_t ldb, float beta, float* c, int64_t ldc);

// The factor B of many such products, laid out once as the instruction set likes it, which small
// m reward. Movable; owns a copy of B. Immutable; thread-safe.
class Bf16Factor {
 public:
  Bf16Factor() = default;
  // From B [n, k] of row stride ld. INTERNAL if oneDNN refuses.
  static absl::StatusOr<Bf16Factor> Create(const uint16_t* b, int64_t n, int64_t k, int64_t ld);

  // C = A B^T + beta C, as GemmBf16. Gaps between the rows of A or C (lda > k, ldc > n) cost a
  // copy.
  absl::Status Multiply(int64_t m, const uint16_t* a, int64_t lda, float beta, float* c,
                        int64_t ldc) const;

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  // Returns the bytes of one such factor.
  static int64_t MemoryBytes(int64_t n, int64_t k);

 private:
  int64_t n_ = 0;
  int64_t k_ = 0;
  std::shared_ptr<const std::byte[]> data_;  // They are 64-byte aligned.
};

// Makes the calling thread compute alone: one OpenMP thread. Every worker calls it before its
// first Gemm, because the setting belongs to the thread.
void LimitThreadToItself();

// "2.6.3"
std::string OneDnnVersion();

// Part of LimitInstructionSet: what products may use. FAILED_PRECONDITION if it is too late, or if
// this oneDNN cannot be limited.
absl::Status LimitProducts(InstructionSet set);

// The best instruction set oneDNN may use here, e.g. "avx512_core_bf16", "avx2".
std::string InstructionPath();

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_GEMM_H_
