#include "core/engines/processor.h"

#include "absl/strings/str_cat.h"

namespace salient {

bool HasAvx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

std::string FourBitProcessorRemark(bool this_has_it) {
  return absl::StrCat(
      "4 bit weights need an x86 CPU with AVX-512 (F, VL, BW and DQ): on others the model loads "
      "and "
      "fails in its first forward pass",
      this_has_it ? "" : "; the CPU that says this has no AVX-512");
}

}  // namespace salient
