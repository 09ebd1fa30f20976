#include "server/workers/stream_end.h"

namespace salient {

StreamEnd::Operation& StreamEnd::Operation::operator=(Operation&& other) noexcept {
  StreamEnd* const taken = other.Release();
  if (StreamEnd* const before = std::exchange(end_, taken)) before->EndOperation();
  return *this;
}

StreamEnd::Operation::~Operation() {
  if (end_ != nullptr) end_->EndOperation();
}

StreamEnd* StreamEnd::Operation::Release() { return std::exchange(end_, nullptr); }

StreamEnd::Operation StreamEnd::Begin() {
  const MutexLock lock(mu_);
  if (finished_) return Operation();
  ++operations_;
  return Operation(this);
}

bool StreamEnd::Decide(const absl::Status& status) {
  const MutexLock lock(mu_);
  if (status_.has_value()) return false;
  status_ = status;
  return true;
}

std::optional<absl::Status> StreamEnd::decided() const {
  const MutexLock lock(mu_);
  return status_;
}

void StreamEnd::EndOperation() {
  absl::AnyInvocable<void(const absl::Status&)> finish;
  absl::Status status;
  {
    const MutexLock lock(mu_);
    --operations_;
    if (!status_.has_value() || operations_ > 0) return;
    finished_ = true;
    finish = std::move(finish_);
    status = *status_;
  }
  finish(status);  // This object may be gone after it.
}

}  // namespace salient
