#include "core/linalg/executor.h"

namespace salient {

absl::Status SerialExecutor::ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) {
  for (int64_t i = 0; i < count; ++i) {
    if (absl::Status status = task(i); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace salient
