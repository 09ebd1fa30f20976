// When to try again, and when to give up.
#ifndef SALIENT_CLIENT_TRANSFER_RETRY_H_
#define SALIENT_CLIENT_TRANSFER_RETRY_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/transfer/call_group.h"
#include "grpcpp/channel.h"

namespace salient::client {

struct RetryPolicy {
  absl::Duration first_delay = absl::Milliseconds(200);  // It doubles with each failure.
  absl::Duration longest_delay = absl::Seconds(10);
  absl::Duration patience = absl::Minutes(2);  // It counts since something last went well.
  // It is told, once until something goes well again, why there is a wait.
  std::function<void(absl::string_view)> tell = nullptr;
};

// Is a server that is talked to for as long as a job runs.
struct JobServer {
  std::shared_ptr<grpc::Channel> channel;
  std::string address;  // Errors name it.
  RetryPolicy retry;
};

// Counts the failures of one piece of work since something last went well. It is not thread-safe.
class Retry {
 public:
  // Borrows the group.
  Retry(const RetryPolicy& policy, CallGroup& group);

  // Notes that something went well: bytes were committed, an event came.
  void Succeeded();

  // Waits for the next attempt. False if there should be none: `failure` is of a kind that comes
  // again, patience is over, or the group was cancelled. What may pass: a server that is away or
  // draining, a writer that took over, and, three times, bytes damaged on the way.
  bool WaitAfter(const absl::Status& failure);

 private:
  const RetryPolicy policy_;
  CallGroup& group_;
  absl::Time well_;
  absl::Duration delay_;
  int damaged_ = 0;
  bool told_ = false;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_RETRY_H_
