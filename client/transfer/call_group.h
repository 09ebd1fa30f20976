// The calls that one command has open, ended together.
#ifndef SALIENT_CLIENT_TRANSFER_CALL_GROUP_H_
#define SALIENT_CLIENT_TRANSFER_CALL_GROUP_H_

#include <memory>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace grpc {
class ClientContext;
}

namespace salient::client {

// Threads upload, watch and download at the same time; Ctrl-C, or the first that fails, ends them
// all. It is thread-safe.
class CallGroup {
 public:
  CallGroup() = default;
  CallGroup(const CallGroup&) = delete;
  CallGroup& operator=(const CallGroup&) = delete;

  // One call; belongs to one thread. A call of a group that was cancelled is cancelled.
  class Call {
   public:
    explicit Call(CallGroup& group, absl::Duration timeout = absl::InfiniteDuration());
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    grpc::ClientContext* context() { return context_.get(); }

   private:
    CallGroup& group_;
    std::unique_ptr<grpc::ClientContext> context_;
  };

  // Cancels what is open and what will be.
  void Cancel();
  bool Cancelled() const;

  // Waits. Returns false, at once, when the group was or is cancelled.
  bool Sleep(absl::Duration duration);

 private:
  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<grpc::ClientContext*> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_CALL_GROUP_H_
