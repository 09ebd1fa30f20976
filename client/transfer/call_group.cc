#include "client/transfer/call_group.h"

#include "absl/time/clock.h"
#include "grpcpp/client_context.h"

namespace salient::client {

CallGroup::Call::Call(CallGroup& group, absl::Duration timeout)
    : group_(group), context_(std::make_unique<grpc::ClientContext>()) {
  if (timeout != absl::InfiniteDuration()) {
    context_->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
  absl::MutexLock lock(&group_.mutex_);
  group_.open_.insert(context_.get());
  if (group_.cancelled_) context_->TryCancel();
}

CallGroup::Call::~Call() {
  absl::MutexLock lock(&group_.mutex_);
  group_.open_.erase(context_.get());
}

void CallGroup::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* context : open_) context->TryCancel();
}

bool CallGroup::Cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

bool CallGroup::Sleep(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), duration);
  return !cancelled_;
}

}  // namespace salient::client
