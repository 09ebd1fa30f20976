// Takes the messages of a TensorCall one after the other, once there is memory for them.
#include <utility>
#include <variant>

#include "core/parallel/executor.h"
#include "core/parallel/mutex.h"
#include "server/calls/call_input.h"
#include "server/calls/call_messages.h"
#include "server/calls/group_check.h"
#include "server/calls/tensor_call.h"
#include "server/workers/memory_budget.h"
#include "server/workers/worker_pool.h"

namespace salient {
namespace {

Stage StageOf(const CallMessage& message) {
  if (std::holds_alternative<WeightData>(message)) return Stage::kRead;
  if (std::holds_alternative<ActivationData>(message)) return Stage::kStatistics;
  if (std::holds_alternative<StatisticsData>(message)) return Stage::kStatistics;
  return Stage::kOther;
}

}  // namespace

void TensorCall::TakeNext() {
  MessageSource source;
  bool ended = false;
  {
    const MutexLock lock(mu_);
    ended = ended_;
    if (!ended && !work_.waiting.has_value() && !inbox_.empty()) {
      source = std::move(inbox_.front());
      inbox_.pop_front();
    }
  }
  absl::Status status;
  bool input_done = false;
  if (!ended) {
    if (work_.waiting.has_value()) {
      status = Admit(*std::exchange(work_.waiting, std::nullopt));
    } else if (source != nullptr) {
      absl::StatusOr<CallMessage> message = source();
      source = nullptr;
      status = message.ok() ? Admit(*std::move(message)) : message.status();
    } else {
      status = work_.input->End();
      input_done = status.ok();
    }
  }
  if (!status.ok()) End(status);

  Taking garbage;
  {
    const MutexLock lock(mu_);
    taking_ = false;
    input_done_ = input_done_ || input_done;
    if (ended_) garbage = std::exchange(work_, Taking());
  }
  if (input_done) NotifyResult();
  Schedule();
}

// Takes a message once there is memory for it.
absl::Status TensorCall::Admit(CallMessage message) {
  absl::StatusOr<int64_t> bytes = work_.input->MemoryBytes(message);
  if (!bytes.ok()) return bytes.status();
  if (*bytes == 0) return Take(std::move(message), MemoryHold());
  // What the open group holds is not given back before its end: beside it there is never more.
  const int64_t held = work_.group.call.bytes() + work_.statistics.call.bytes();
  if (*bytes > limits_.call_memory_bytes - held) {
    return TooMuchMemory("a statistics file beside its group", *bytes + held,
                         limits_.call_memory_bytes);
  }
  std::optional<MemoryHold> hold = TryHold(*bytes);
  if (!hold.has_value()) {
    work_.waiting = std::move(message);
    return absl::OkStatus();
  }
  return Take(std::move(message), *std::move(hold));
}

std::optional<MemoryHold> TensorCall::TryHold(int64_t bytes) {
  std::optional<Reservation> call = call_memory_.TryReserve(bytes);
  std::optional<Reservation> process;
  if (call.has_value()) {
    process = shared_.memory.TryReserve(bytes, work_.place.get());
    if (!process.has_value() && work_.place == nullptr) {
      work_.place = std::make_unique<MemoryBudget::Place>(shared_.memory);
    }
  }
  const MutexLock lock(mu_);
  if (process.has_value()) {
    work_.place = nullptr;
    blocked_ = std::nullopt;
    return MemoryHold{*std::move(call), *std::move(process)};
  }
  const bool by_call = !call.has_value();
  // A call that waits for its client must not stand in the way of others.
  if (by_call) work_.place = nullptr;
  if (!blocked_.has_value() || blocked_->by_call != by_call) {
    blocked_ = Blocked{bytes, absl::Now(), by_call};
  }
  return std::nullopt;
}

absl::Status TensorCall::Take(CallMessage message, MemoryHold hold) {
  PoolExecutor executor(shared_.pool, stop_);
  const StageScope stage(executor, StageOf(message));
  if (std::holds_alternative<StatisticsData>(message) && hold.call.bytes() > 0) {
    work_.statistics = std::move(hold);
  }
  absl::StatusOr<CallInput::Taken> taken = work_.input->Take(std::move(message), executor);
  if (!taken.ok()) return taken.status();
  if (taken->opened_group) work_.group = std::move(hold);
  if (taken->merged_statistics) {
    work_.statistics.ShrinkTo(taken->kept_bytes);
    work_.group.Absorb(std::exchange(work_.statistics, MemoryHold()));
  }
  shared_.counters.tokens_folded.fetch_add(taken->tokens, std::memory_order_relaxed);
  const MutexLock lock(mu_);
  summary_.tokens += taken->tokens;
  if (taken->closed.has_value() && !ended_) {
    closed_.push_back(
        {std::move(work_.group), *work_.input->options(), *std::move(taken->closed), absl::Now()});
  }
  return absl::OkStatus();
}

void TensorCall::RetryBlocked() {
  {
    const MutexLock lock(mu_);
    if (ended_ || taking_ || !blocked_.has_value()) return;
    taking_ = true;
  }
  shared_.pool.Submit(WorkerPool::Lane::kShort, [self = shared_from_this()] { self->TakeNext(); });
}

}  // namespace salient
