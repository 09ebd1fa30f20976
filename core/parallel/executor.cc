#include "core/parallel/executor.h"

#include <utility>

namespace salient {
namespace {

class Ended final : public Background {
 public:
  explicit Ended(absl::Status status) : status_(std::move(status)) {}
  absl::Status Wait() override { return std::move(status_); }

 private:
  absl::Status status_;
};

}  // namespace

std::unique_ptr<Background> Executor::Start(absl::AnyInvocable<absl::Status()> work) {
  return std::make_unique<Ended>(work());
}

absl::Status SerialExecutor::ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) {
  for (int64_t i = 0; i < count; ++i) {
    if (absl::Status status = task(i); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace salient
