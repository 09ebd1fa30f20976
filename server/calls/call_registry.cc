#include "server/calls/call_registry.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

constexpr absl::Duration kRetryWhenBusy = absl::Seconds(5);
constexpr absl::Duration kRetryWhenDraining = absl::Seconds(1);

absl::Status Draining() {
  return WithRetryAfter(CallError(absl::StatusCode::kUnavailable, Reason::kDraining,
                                  "the server is stopping; expected another one to be tried"),
                        kRetryWhenDraining);
}

}  // namespace

CallRegistry::CallRegistry(const Settings& settings)
    : settings_(settings), memory_(settings.memory_bytes), pool_(settings.workers) {
  watch_ = std::thread([this] { Watch(); });
}

CallRegistry::~CallRegistry() {
  {
    const MutexLock lock(mu_);
    draining_ = true;
    stopping_ = true;
  }
  changed_.NotifyAll();
  watch_.join();
  EndAll();
}

absl::StatusOr<std::shared_ptr<TensorCall>> CallRegistry::Open(
    std::shared_ptr<CallTransport> transport) {
  const MutexLock lock(mu_);
  if (draining_) return Draining();
  if (static_cast<int>(active_.size()) >= settings_.max_active_calls) {
    absl::Status status =
        CallError(absl::StatusCode::kResourceExhausted, Reason::kBusy,
                  absl::StrCat(active_.size(), " calls are active; expected fewer than ",
                               settings_.max_active_calls, "; try again later"));
    return WithQuota(WithRetryAfter(std::move(status), kRetryWhenBusy), "max_active_calls");
  }
  const int64_t id = next_id_++;
  auto call =
      std::make_shared<TensorCall>(TensorCall::Shared{pool_, memory_, counters_}, settings_.call,
                                   std::move(transport), [this, id] { Closed(id); });
  active_[id] = call;
  return call;
}

void CallRegistry::Closed(int64_t id) {
  const MutexLock lock(mu_);
  active_.erase(id);
  changed_.NotifyAll();
}

std::vector<std::shared_ptr<TensorCall>> CallRegistry::Active() const {
  std::vector<std::shared_ptr<TensorCall>> calls;
  const MutexLock lock(mu_);
  for (const auto& [id, weak] : active_) {
    if (auto call = weak.lock()) calls.push_back(std::move(call));
  }
  return calls;
}

void CallRegistry::Drain() {
  const MutexLock lock(mu_);
  draining_ = true;
}

bool CallRegistry::WaitUntilIdle(absl::Duration timeout) {
  constexpr absl::Duration kLongest = absl::Hours(24 * 365);  // The clock can add so much.
  MutexLock lock(mu_);
  const auto end =
      std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(std::min(timeout, kLongest));
  while (!active_.empty() && changed_.WaitUntil(mu_, end)) {
  }
  return active_.empty();
}

void CallRegistry::EndAll() {
  for (const auto& call : Active()) call->Fail(Draining());
}

// Every call's clocks are looked at by one thread.
void CallRegistry::Watch() {
  pthread_setname_np(pthread_self(), "salient-watch");
  const CallLimits& limits = settings_.call;
  const absl::Duration shortest =
      std::min({limits.idle_timeout, limits.not_reading_timeout, limits.memory_wait});
  const absl::Duration period =
      std::clamp(shortest / 10, absl::Milliseconds(10), absl::Milliseconds(100));
  while (true) {
    {
      MutexLock lock(mu_);
      const auto end = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(period);
      while (!stopping_ && changed_.WaitUntil(mu_, end)) {
      }
      if (stopping_) return;
    }
    const absl::Time now = absl::Now();
    for (const auto& call : Active()) call->Tick(now);
  }
}

CallRegistry::Stats CallRegistry::GetStats() const {
  Stats stats;
  stats.pool = pool_.GetStats();
  stats.tokens_folded = counters_.tokens_folded.load(std::memory_order_relaxed);
  stats.groups_quantized = counters_.groups_quantized.load(std::memory_order_relaxed);
  stats.parameters_quantized = counters_.parameters_quantized.load(std::memory_order_relaxed);
  stats.memory_reserved_bytes = memory_.reserved_bytes();
  stats.memory_limit_bytes = memory_.limit_bytes();
  const MutexLock lock(mu_);
  stats.active_calls = static_cast<int64_t>(active_.size());
  return stats;
}

}  // namespace salient
