// Matrix multiplication on oneDNN: the only file that knows it.
#ifndef SALIENT_CORE_LINALG_GEMM_H_
#define SALIENT_CORE_LINALG_GEMM_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace salient {

enum class Op { kPlain, kTransposed };

// C = op(A) op(B) + beta C, all f32 and row-major: op(A) [m, k], op(B) [k, n], C [m, n].
// lda, ldb, ldc are the row strides of A, B and C as they lie in memory.
//
// Runs on the calling thread. INTERNAL if oneDNN refuses. Thread-safe. The result of a call
// depends on its shape and operands only.
absl::Status Gemm(Op op_a, Op op_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                  const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// Makes the calling thread compute alone: one OpenMP thread. Every worker calls it before its
// first Gemm, because the setting belongs to the thread.
void LimitThreadToItself();

// "2.6.3"
std::string OneDnnVersion();

// The best instruction set oneDNN may use here, e.g. "avx512_core_bf16", "avx2".
std::string InstructionPath();

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_GEMM_H_
