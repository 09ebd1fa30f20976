// One QuantizeTensors call from its first message to its end, free of the transport.
#ifndef SALIENT_SERVER_CALLS_TENSOR_CALL_H_
#define SALIENT_SERVER_CALLS_TENSOR_CALL_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/parallel/mutex.h"
#include "server/calls/call_input.h"
#include "server/calls/call_limits.h"
#include "server/calls/call_messages.h"
#include "server/calls/open_group.h"
#include "server/calls/result_queue.h"
#include "server/workers/cancel_token.h"
#include "server/workers/memory_budget.h"
#include "server/workers/worker_pool.h"

namespace salient {

// Is the other side of a call. Methods are called from any thread, never with a lock held, and must
// not block. Calls may still arrive after Finish; they are then ignored.
class CallTransport {
 public:
  virtual ~CallTransport() = default;

  // Reads one message; it ends in TensorCall::Deliver or TensorCall::EndOfInput.
  virtual void ReadNext() = 0;

  // Tells that TensorCall::TakeResult has something new to say.
  virtual void ResultReady() = 0;

  // Ends the call. It is called once.
  virtual void Finish(const absl::Status& status) = 0;
};

// Work done so far, over all calls of a server. Atomics, read at scrape.
struct CallCounters {
  std::atomic<int64_t> tokens_folded{0};
  std::atomic<int64_t> groups_quantized{0};
  std::atomic<int64_t> parameters_quantized{0};
};

// Says what one call did, for its log line.
struct CallSummary {
  int64_t groups = 0;
  int64_t parameters = 0;
  int64_t tokens = 0;
};

// Is thread-safe. Messages are taken one at a time, in order, on the pool's short lane, one being
// read while another is taken; groups that are whole are quantized one at a time, in order, on the
// long lane, while the next is read. Reading stops while the next group does not fit into the
// memory that the call, or all calls together, may have.
class TensorCall : public std::enable_shared_from_this<TensorCall> {
 public:
  // Decodes a message that was read; runs on a worker.
  using MessageSource = absl::AnyInvocable<absl::StatusOr<CallMessage>()>;

  // Holds what calls share. Outlives them all.
  struct Shared {
    WorkerPool& pool;
    MemoryBudget& memory;
    CallCounters& counters;
  };

  // `on_end` runs once, when the call is over, before the transport is told.
  TensorCall(Shared shared, const CallLimits& limits, std::shared_ptr<CallTransport> transport,
             absl::AnyInvocable<void()> on_end);

  // Asks for the first message.
  void Start();

  // Takes what a read ended with: a message, or the end of the client's messages.
  void Deliver(MessageSource message);
  void EndOfInput();

  // Returns the next thing to send, once the one before was sent; nullopt if there is nothing for
  // now. When all was sent and the client said all, the call ends well.
  std::optional<OutgoingResult> TakeResult();

  // Ends the call because the client went away, or its deadline passed. Running work stops after
  // its current items.
  void Cancel();
  void Expire();

  // Ends the call with `status`, not OK, if it is not over.
  void Fail(const absl::Status& status) { End(status); }

  // Ends the call if the client has kept it waiting for too long; tries again for memory.
  void Tick(absl::Time now);

  CallSummary Summary() const;

 private:
  struct QuantizeTask {
    MemoryHold hold;
    CallOptions options;
    ClosedGroup group;
    absl::Time closed_at;
  };
  // Is a message that waits for memory.
  struct Blocked {
    int64_t bytes = 0;
    absl::Time since;
    bool by_call = false;  // The call's own memory is full, else that of all calls.
  };
  // Holds what the taking side works on.
  struct Taking {
    MemoryHold group;
    MemoryHold statistics;
    std::unique_ptr<MemoryBudget::Place> place;
    std::unique_ptr<CallInput> input;
    std::optional<CallMessage> waiting;  // It waits for memory.
  };

  // Takes the next message; at most one of these runs at a time.
  void TakeNext();
  absl::Status Admit(CallMessage message);
  absl::Status Take(CallMessage message, MemoryHold hold);

  void QuantizeNext();
  absl::Status Quantize(QuantizeTask task);

  std::optional<MemoryHold> TryHold(int64_t bytes);
  void RetryBlocked();
  void NotifyResult();
  void Schedule();
  void End(const absl::Status& status);
  absl::Status Overdue(absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Shared shared_;
  const CallLimits limits_;
  CancelToken stop_;
  MemoryBudget call_memory_;  // It outlives everything that holds of it.
  Taking work_;               // It belongs to whoever set taking_.

  mutable Mutex mu_;
  std::shared_ptr<CallTransport> transport_ ABSL_GUARDED_BY(mu_);
  absl::AnyInvocable<void()> on_end_ ABSL_GUARDED_BY(mu_);
  std::deque<MessageSource> inbox_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool taking_ ABSL_GUARDED_BY(mu_) = false;
  bool end_of_input_ ABSL_GUARDED_BY(mu_) = false;  // The client said all.
  bool input_done_ ABSL_GUARDED_BY(mu_) = false;    // All of it was taken.
  std::optional<Blocked> blocked_ ABSL_GUARDED_BY(mu_);
  std::deque<QuantizeTask> closed_ ABSL_GUARDED_BY(mu_);
  bool quantizing_ ABSL_GUARDED_BY(mu_) = false;
  ResultQueue results_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time last_message_ ABSL_GUARDED_BY(mu_);   // It came then, or was asked for after a pause.
  absl::Time last_progress_ ABSL_GUARDED_BY(mu_);  // A result became ready or was taken then.
  CallSummary summary_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_TENSOR_CALL_H_
