#include "server/workers/bounded_lane.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/linalg/gemm.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

constexpr absl::Duration kRetryWhenBusy = absl::Seconds(1);

}  // namespace

BoundedLane::BoundedLane(const std::string& name, Limits limits)
    : limits_(limits), thread_([this, name] { Work(name); }) {}

BoundedLane::~BoundedLane() {
  {
    const MutexLock lock(mu_);
    stopping_ = true;
  }
  begin_.NotifyOne();
  thread_.join();
}

std::list<BoundedLane::Client>::iterator BoundedLane::Find(absl::string_view name) {
  return std::find_if(clients_.begin(), clients_.end(),
                      [name](const Client& client) { return client.name == name; });
}

bool BoundedLane::HasRoom(const Client* client, int64_t bytes, bool is_house) const {
  if (waiting_ == 0) return limits_.tasks > 0;
  if (waiting_ >= limits_.tasks || bytes > limits_.bytes - waiting_bytes_) return false;
  if (client == nullptr || is_house) return true;
  return static_cast<int64_t>(client->waiting.size()) < (limits_.tasks + 1) / 2 &&
         bytes <= limits_.bytes / 2 - client->bytes;
}

void BoundedLane::Add(Waiting task, absl::string_view name) {
  auto client = Find(name);
  if (client == clients_.end()) {
    clients_.push_back({std::string(name), {}, 0});
    client = std::prev(clients_.end());
  }
  ++waiting_;
  waiting_bytes_ += task.bytes;
  client->bytes += task.bytes;
  client->waiting.push_back(std::move(task));
}

BoundedLane::Task BoundedLane::TakeFirst() {
  Client& client = clients_.front();
  Task task = std::move(client.waiting.front().task);
  const int64_t bytes = client.waiting.front().bytes;
  client.waiting.pop_front();
  client.bytes -= bytes;
  waiting_bytes_ -= bytes;
  --waiting_;
  if (client.waiting.empty()) {
    clients_.pop_front();
  } else {
    clients_.splice(clients_.end(), clients_, clients_.begin());
  }
  return task;
}

absl::Status BoundedLane::Submit(Task task, int64_t bytes, absl::string_view client) {
  int64_t tasks = 0;
  {
    const MutexLock lock(mu_);
    tasks = waiting_;
    const auto known = Find(client);
    if (HasRoom(known == clients_.end() ? nullptr : &*known, bytes, client.empty())) {
      Add({std::move(task), bytes}, client);
      begin_.NotifyOne();
      return absl::OkStatus();
    }
  }
  return WithQuota(
      WithRetryAfter(CallError(absl::StatusCode::kResourceExhausted, Reason::kBusy,
                               absl::StrCat(tasks, " calls wait: as many of all clients, ",
                                            "or of this one, as may")),
                     kRetryWhenBusy),
      "waiting_calls");
}

void BoundedLane::Continue(Task task) {
  {
    const MutexLock lock(mu_);
    Add({std::move(task), 0}, "");
  }
  begin_.NotifyOne();
}

int64_t BoundedLane::waiting() const {
  const MutexLock lock(mu_);
  return waiting_;
}

void BoundedLane::Work(const std::string& name) {
  pthread_setname_np(pthread_self(), name.c_str());
  LimitThreadToItself();
  MutexLock lock(mu_);
  while (true) {
    while (!stopping_ && waiting_ == 0) begin_.Wait(mu_);
    if (waiting_ == 0) return;
    Task task = TakeFirst();
    lock.Unlock();
    task();
    task = nullptr;  // It frees what it owns before the lock comes back.
    lock.Lock();
  }
}

}  // namespace salient
