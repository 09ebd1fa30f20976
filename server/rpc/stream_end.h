// When a stream may be finished: once, after its status is known and while nobody starts an
// operation on it.
#ifndef SALIENT_SERVER_RPC_STREAM_END_H_
#define SALIENT_SERVER_RPC_STREAM_END_H_

#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"

namespace salient {

// Reads and writes are started without a lock, because gRPC may run their reaction at once, on any
// thread; finishing the stream meanwhile would be using it after its end. So a reactor calls Begin
// before it starts one and Began after; where it has a status it calls Set; and after either it
// finishes with what Take gives. Thread-safe.
class StreamEnd {
 public:
  void Begin() {
    const std::lock_guard<std::mutex> lock(mu_);
    ++starting_;
  }
  void Began() {
    const std::lock_guard<std::mutex> lock(mu_);
    --starting_;
  }
  void Set(absl::Status status) {
    const std::lock_guard<std::mutex> lock(mu_);
    status_ = std::move(status);
  }

  // The status to finish with, given once and only when it is time to.
  std::optional<absl::Status> Take() {
    const std::lock_guard<std::mutex> lock(mu_);
    if (!status_.has_value() || taken_ || starting_ > 0) return std::nullopt;
    taken_ = true;
    return status_;
  }

 private:
  std::mutex mu_;  // of all below
  int starting_ = 0;
  std::optional<absl::Status> status_;
  bool taken_ = false;
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAM_END_H_
