#include "server/jobs/numerics.h"

#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"

namespace salient {
namespace {

// Grows whenever the same input gives other bytes.
constexpr int kAlgorithmVersion = 1;

}  // namespace

std::string NumericsId() {
  return absl::StrCat("f32/", InstructionPath(), "/onednn-", OneDnnVersion(), "/salient-",
                      kAlgorithmVersion);
}

}  // namespace salient
