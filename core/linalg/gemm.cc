#include "core/linalg/gemm.h"

#include <omp.h>

#include "absl/strings/str_cat.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace salient {

absl::Status Gemm(Op op_a, Op op_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                  const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  const auto flag = [](Op op) { return op == Op::kTransposed ? 'T' : 'N'; };
  // A primitive would have to be created per shape; this entry is the same jitted kernel
  // without that, keeps no scratchpad between calls and exists in oneDNN 2.6 and 3.x alike.
  const dnnl_status_t status =
      dnnl_sgemm(flag(op_a), flag(op_b), m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
  if (status == dnnl_success) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("oneDNN sgemm [", m, ", ", k, "] x [", k, ", ", n,
                                          "] failed with status ", static_cast<int>(status)));
}

void LimitThreadToItself() { omp_set_num_threads(1); }

std::string OneDnnVersion() {
  const dnnl_version_t* version = dnnl_version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->patch);
}

std::string InstructionPath() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
      return "sse41";
    case dnnl_cpu_isa_avx:
      return "avx";
    case dnnl_cpu_isa_avx2:
      return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
      return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
      return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "avx512_core_amx";
    default:
      // Newer releases know more; the number still tells two of them apart.
      return absl::StrCat("isa_0x", absl::Hex(static_cast<int>(dnnl_get_effective_cpu_isa())));
  }
}

}  // namespace salient
