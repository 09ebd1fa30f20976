#include "core/numerics.h"

#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"
#include "core/linalg/kernels.h"

namespace salient {

std::string NumericsId() {
  return absl::StrCat("f32/", InstructionPath(), "+", KernelTarget(), "/onednn-", OneDnnVersion(),
                      "/salient-", kAlgorithmVersion);
}

}  // namespace salient
