#include "server/calls/tensor_call.h"

#include <utility>

#include "core/group/quantize_group.h"
#include "server/calls/open_group.h"

namespace salient {
namespace {

// Messages of a call that are here at a time: one being taken, one read ahead.
constexpr size_t kMessagesHere = 2;

}  // namespace

TensorCall::TensorCall(Shared shared, const CallLimits& limits,
                       std::shared_ptr<CallTransport> transport, absl::AnyInvocable<void()> on_end)
    : shared_(shared),
      limits_(limits),
      call_memory_(limits.call_memory_bytes),
      transport_(std::move(transport)),
      on_end_(std::move(on_end)),
      last_message_(absl::Now()),
      last_progress_(absl::Now()) {
  work_.input = std::make_unique<CallInput>(limits, shared.pool.workers());
}

void TensorCall::Start() { Schedule(); }

void TensorCall::Deliver(MessageSource message) {
  {
    const MutexLock lock(mu_);
    reading_ = false;
    last_message_ = absl::Now();
    if (ended_) return;
    inbox_.push_back(std::move(message));
  }
  Schedule();
}

void TensorCall::EndOfInput() {
  {
    const MutexLock lock(mu_);
    reading_ = false;
    end_of_input_ = true;
  }
  Schedule();
}

// Starts whatever may start now.
void TensorCall::Schedule() {
  bool take = false;
  bool quantize = false;
  std::shared_ptr<CallTransport> reader;
  {
    const MutexLock lock(mu_);
    if (ended_) return;
    const bool something = !inbox_.empty() || (end_of_input_ && !input_done_);
    if (!taking_ && !blocked_.has_value() && something) taking_ = take = true;
    if (!quantizing_ && !closed_.empty()) quantizing_ = quantize = true;
    const size_t here = inbox_.size() + (taking_ ? 1 : 0);
    if (!reading_ && !end_of_input_ && !blocked_.has_value() && here < kMessagesHere) {
      reading_ = true;
      last_message_ = absl::Now();
      reader = transport_;
    }
  }
  if (reader != nullptr) reader->ReadNext();
  if (take) {
    shared_.pool.Submit(WorkerPool::Lane::kShort,
                        [self = shared_from_this()] { self->TakeNext(); });
  }
  if (quantize) {
    shared_.pool.Submit(WorkerPool::Lane::kLong,
                        [self = shared_from_this()] { self->QuantizeNext(); });
  }
}

void TensorCall::QuantizeNext() {
  std::optional<QuantizeTask> task;
  {
    const MutexLock lock(mu_);
    if (!ended_ && !closed_.empty()) {
      task = std::move(closed_.front());
      closed_.pop_front();
    }
  }
  const absl::Status status = task.has_value() ? Quantize(*std::move(task)) : absl::OkStatus();
  task.reset();
  {
    const MutexLock lock(mu_);
    quantizing_ = false;
  }
  if (!status.ok()) {
    End(status);
    return;
  }
  NotifyResult();
  RetryBlocked();
  Schedule();
}

absl::Status TensorCall::Quantize(QuantizeTask task) {
  if (absl::Status stopped = stop_.Check(); !stopped.ok()) return stopped;
  PoolExecutor executor(shared_.pool, stop_);
  absl::StatusOr<GroupResult> result = task.group.Quantize(task.options, executor);
  if (!result.ok()) return result.status();
  const int64_t parameters = result->report.parameters;
  shared_.counters.groups_quantized.fetch_add(1, std::memory_order_relaxed);
  shared_.counters.parameters_quantized.fetch_add(parameters, std::memory_order_relaxed);

  const int64_t bytes = ResultBytes(*result);
  const absl::Time now = absl::Now();
  auto finished = std::make_shared<const FinishedGroup>(
      FinishedGroup{*std::move(result), now - task.closed_at});
  task.group = ClosedGroup();  // The inputs go before their memory is given back.
  task.hold.ShrinkTo(bytes);

  const MutexLock lock(mu_);
  summary_.groups += 1;
  summary_.parameters += parameters;
  if (ended_) return absl::OkStatus();
  if (results_.empty()) last_progress_ = now;
  results_.Push({std::move(task.hold), std::move(finished)});
  return absl::OkStatus();
}

std::optional<OutgoingResult> TensorCall::TakeResult() {
  std::optional<OutgoingResult> outgoing;
  std::vector<ResultQueue::Entry> sent;  // It is freed without the lock.
  bool all_sent = false;
  {
    const MutexLock lock(mu_);
    if (ended_) return std::nullopt;
    last_progress_ = absl::Now();
    outgoing = results_.Next(sent);
    all_sent = !outgoing.has_value() && input_done_ && !quantizing_ && closed_.empty();
  }
  if (!sent.empty()) {
    sent.clear();
    RetryBlocked();
  }
  if (all_sent) End(absl::OkStatus());
  return outgoing;
}

void TensorCall::NotifyResult() {
  std::shared_ptr<CallTransport> transport;
  {
    const MutexLock lock(mu_);
    transport = transport_;
  }
  if (transport != nullptr) transport->ResultReady();
}

void TensorCall::Cancel() {
  stop_.Cancel();
  End(absl::CancelledError("the client cancelled the call or went away"));
}

void TensorCall::Expire() {
  stop_.Expire();
  End(absl::DeadlineExceededError("the call's deadline passed"));
}

void TensorCall::End(const absl::Status& status) {
  std::shared_ptr<CallTransport> transport;
  absl::AnyInvocable<void()> on_end;
  std::deque<MessageSource> inbox;
  std::deque<QuantizeTask> closed;
  ResultQueue results;
  Taking side;
  {
    const MutexLock lock(mu_);
    if (ended_) return;
    ended_ = true;
    transport = std::move(transport_);
    on_end = std::move(on_end_);
    inbox.swap(inbox_);
    closed.swap(closed_);
    std::swap(results, results_);
    blocked_ = std::nullopt;
    // A worker that is taking a message clears its side when it is through.
    if (!taking_) std::swap(side, work_);
  }
  if (!status.ok()) stop_.Cancel();
  // Memory goes first, so that who hears of the end finds it free.
  inbox.clear();
  closed.clear();
  results = ResultQueue();
  side = Taking();
  if (on_end != nullptr) on_end();
  if (transport != nullptr) transport->Finish(status);
}

CallSummary TensorCall::Summary() const {
  const MutexLock lock(mu_);
  return summary_;
}

}  // namespace salient
