#include "server/calls/tensor_call.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/calls/group_check.h"
#include "server/workers/call_error.h"

namespace salient {
namespace {

// Messages of a call that are here at a time: one being taken, one read ahead.
constexpr size_t kMessagesHere = 2;

Stage StageOf(const CallMessage& message) {
  if (std::holds_alternative<WeightData>(message)) return Stage::kRead;
  if (std::holds_alternative<ActivationData>(message)) return Stage::kStatistics;
  if (std::holds_alternative<StatisticsData>(message)) return Stage::kStatistics;
  return Stage::kOther;
}

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
  side_.input = std::make_unique<CallInput>(limits, shared.pool.workers());
}

void TensorCall::Start() { Schedule(); }

void TensorCall::Deliver(MessageSource message) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    reading_ = false;
    last_message_ = absl::Now();
    if (ended_) return;
    inbox_.push_back(std::move(message));
  }
  Schedule();
}

void TensorCall::EndOfInput() {
  {
    std::lock_guard<std::mutex> lock(mu_);
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
    std::lock_guard<std::mutex> lock(mu_);
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

void TensorCall::TakeNext() {
  MessageSource source;
  bool ended = false;
  {
    std::lock_guard<std::mutex> lock(mu_);
    ended = ended_;
    if (!ended && !side_.waiting.has_value() && !inbox_.empty()) {
      source = std::move(inbox_.front());
      inbox_.pop_front();
    }
  }
  absl::Status status;
  bool input_done = false;
  if (!ended) {
    if (side_.waiting.has_value()) {
      status = Admit(*std::exchange(side_.waiting, std::nullopt));
    } else if (source != nullptr) {
      absl::StatusOr<CallMessage> message = source();
      source = nullptr;
      status = message.ok() ? Admit(*std::move(message)) : message.status();
    } else {
      status = side_.input->End();
      input_done = status.ok();
    }
  }
  if (!status.ok()) End(status);

  Taking garbage;
  {
    std::lock_guard<std::mutex> lock(mu_);
    taking_ = false;
    input_done_ = input_done_ || input_done;
    if (ended_) garbage = std::exchange(side_, Taking());
  }
  if (input_done) NotifyResult();
  Schedule();
}

// Takes a message once there is memory for it.
absl::Status TensorCall::Admit(CallMessage message) {
  absl::StatusOr<int64_t> bytes = side_.input->MemoryBytes(message);
  if (!bytes.ok()) return bytes.status();
  if (*bytes == 0) return Take(std::move(message), MemoryHold());
  // What the open group holds is not given back before its end: beside it there is never more.
  const int64_t held = side_.group.call.bytes() + side_.statistics.call.bytes();
  if (*bytes > limits_.call_memory_bytes - held) {
    return TooMuchMemory("a statistics file beside its group", *bytes + held,
                         limits_.call_memory_bytes);
  }
  std::optional<MemoryHold> hold = TryHold(*bytes);
  if (!hold.has_value()) {
    side_.waiting = std::move(message);
    return absl::OkStatus();
  }
  return Take(std::move(message), *std::move(hold));
}

std::optional<MemoryHold> TensorCall::TryHold(int64_t bytes) {
  std::optional<Reservation> call = call_memory_.TryReserve(bytes);
  std::optional<Reservation> process;
  if (call.has_value()) {
    process = shared_.memory.TryReserve(bytes, side_.place.get());
    if (!process.has_value() && side_.place == nullptr) {
      side_.place = std::make_unique<MemoryBudget::Place>(shared_.memory);
    }
  }
  std::lock_guard<std::mutex> lock(mu_);
  if (process.has_value()) {
    side_.place = nullptr;
    blocked_ = std::nullopt;
    return MemoryHold{*std::move(call), *std::move(process)};
  }
  const bool by_call = !call.has_value();
  // Who waits for the client must not stand in the way of others.
  if (by_call) side_.place = nullptr;
  if (!blocked_.has_value() || blocked_->by_call != by_call) {
    blocked_ = Blocked{bytes, absl::Now(), by_call};
  }
  return std::nullopt;
}

absl::Status TensorCall::Take(CallMessage message, MemoryHold hold) {
  PoolExecutor executor(shared_.pool, stop_);
  const StageScope stage(executor, StageOf(message));
  if (std::holds_alternative<StatisticsData>(message) && hold.call.bytes() > 0) {
    side_.statistics = std::move(hold);
  }
  absl::StatusOr<CallInput::Taken> taken = side_.input->Take(std::move(message), executor);
  if (!taken.ok()) return taken.status();
  if (taken->opened_group) side_.group = std::move(hold);
  if (taken->merged_statistics) {
    side_.statistics.ShrinkTo(taken->kept_bytes);
    side_.group.Absorb(std::exchange(side_.statistics, MemoryHold()));
  }
  shared_.counters.tokens_folded.fetch_add(taken->tokens, std::memory_order_relaxed);
  std::lock_guard<std::mutex> lock(mu_);
  summary_.tokens += taken->tokens;
  if (taken->closed.has_value() && !ended_) {
    closed_.push_back(
        {std::move(side_.group), *side_.input->options(), *std::move(taken->closed), absl::Now()});
  }
  return absl::OkStatus();
}

void TensorCall::QuantizeNext() {
  std::optional<QuantizeTask> task;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (!ended_ && !closed_.empty()) {
      task = std::move(closed_.front());
      closed_.pop_front();
    }
  }
  const absl::Status status = task.has_value() ? Quantize(*std::move(task)) : absl::OkStatus();
  task.reset();
  {
    std::lock_guard<std::mutex> lock(mu_);
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
  task.group = ClosedGroup();  // the inputs go before their memory is given back
  task.hold.ShrinkTo(bytes);

  std::lock_guard<std::mutex> lock(mu_);
  summary_.groups += 1;
  summary_.parameters += parameters;
  if (ended_) return absl::OkStatus();
  if (results_.empty()) last_progress_ = now;
  results_.Push({std::move(task.hold), std::move(finished)});
  return absl::OkStatus();
}

std::optional<OutgoingResult> TensorCall::TakeResult() {
  std::optional<OutgoingResult> outgoing;
  std::vector<ResultQueue::Entry> sent;  // freed without the lock
  bool all_sent = false;
  {
    std::lock_guard<std::mutex> lock(mu_);
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
    std::lock_guard<std::mutex> lock(mu_);
    transport = transport_;
  }
  if (transport != nullptr) transport->ResultReady();
}

void TensorCall::RetryBlocked() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (ended_ || taking_ || !blocked_.has_value()) return;
    taking_ = true;
  }
  shared_.pool.Submit(WorkerPool::Lane::kShort, [self = shared_from_this()] { self->TakeNext(); });
}

void TensorCall::Cancel() {
  stop_.Cancel();
  End(absl::CancelledError("the client cancelled the call or went away"));
}

void TensorCall::Expire() {
  stop_.Expire();
  End(absl::DeadlineExceededError("the call's deadline passed"));
}

void TensorCall::Tick(absl::Time now) {
  absl::Status overdue;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (ended_) return;
    overdue = Overdue(now);
  }
  if (!overdue.ok()) {
    End(overdue);
  } else {
    RetryBlocked();
  }
}

absl::Status TensorCall::Overdue(absl::Time now) const {
  const auto not_reading = [](absl::Duration waited) {
    return CallError(
        absl::StatusCode::kAborted, Reason::kClientNotReading,
        absl::StrCat("results have waited for ", absl::FormatDuration(waited),
                     " and nobody reads them; expected the client to read while it writes"));
  };
  if (blocked_.has_value() && blocked_->by_call) {
    const absl::Time since = std::max(blocked_->since, last_progress_);
    if (!results_.empty() && now - since > limits_.not_reading_timeout) {
      return not_reading(limits_.not_reading_timeout);
    }
    return absl::OkStatus();
  }
  if (blocked_.has_value()) {
    if (now - blocked_->since <= limits_.memory_wait) return absl::OkStatus();
    absl::Status status =
        CallError(absl::StatusCode::kResourceExhausted, Reason::kBusy,
                  absl::StrCat("no room for ", blocked_->bytes, " bytes within ",
                               absl::FormatDuration(limits_.memory_wait), ": of ",
                               shared_.memory.limit_bytes(), " bytes for all calls ",
                               shared_.memory.reserved_bytes(), " are in use; try again later"));
    return WithQuota(WithRetryAfter(std::move(status), limits_.memory_wait), "memory_bytes");
  }
  if (!results_.empty()) {
    if (now - last_progress_ > limits_.idle_timeout) return not_reading(limits_.idle_timeout);
    return absl::OkStatus();
  }
  const bool ours = !reading_ || taking_ || quantizing_ || !inbox_.empty() || !closed_.empty();
  if (!ours && now - std::max(last_message_, last_progress_) > limits_.idle_timeout) {
    return CallError(
        absl::StatusCode::kAborted, Reason::kClientIdle,
        absl::StrCat("no message came for ", absl::FormatDuration(limits_.idle_timeout),
                     "; expected the next one or the end of the stream"));
  }
  return absl::OkStatus();
}

void TensorCall::End(const absl::Status& status) {
  std::shared_ptr<CallTransport> transport;
  absl::AnyInvocable<void()> on_end;
  std::deque<MessageSource> inbox;
  std::deque<QuantizeTask> closed;
  ResultQueue results;
  Taking side;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (ended_) return;
    ended_ = true;
    transport = std::move(transport_);
    on_end = std::move(on_end_);
    inbox.swap(inbox_);
    closed.swap(closed_);
    std::swap(results, results_);
    blocked_ = std::nullopt;
    // A worker that is taking a message clears its side when it is through.
    if (!taking_) std::swap(side, side_);
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
  std::lock_guard<std::mutex> lock(mu_);
  return summary_;
}

}  // namespace salient
