#include "core/model/numerics.h"

#include "absl/strings/str_cat.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"
#include "core/model/activations.h"

namespace salient {

std::string NumericsId(ComputeDType compute) {
  return absl::StrCat(compute == ComputeDType::kBF16 ? "bf16/" : "f32/", InstructionPath(), "+",
                      KernelTarget(), "/onednn-", OneDnnVersion(), "/salient-", kAlgorithmVersion);
}

}  // namespace salient
