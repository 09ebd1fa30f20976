// Runs a thread beside the pool, for work that waits for no message and no message for it.
#ifndef SALIENT_SERVER_WORKERS_BOUNDED_LANE_H_
#define SALIENT_SERVER_WORKERS_BOUNDED_LANE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"

namespace salient {

// Does one task after the other, in the order in which they came. It is thread-safe.
class BoundedLane {
 public:
  using Task = absl::AnyInvocable<void()>;

  // The limits say how much may wait: tasks, and what they hold.
  struct Limits {
    int64_t tasks = 0;
    int64_t bytes = INT64_MAX;
  };

  // `name` is the thread's, of at most 15 bytes.
  BoundedLane(const std::string& name, Limits limits);
  // Runs all that was taken.
  ~BoundedLane();
  BoundedLane(const BoundedLane&) = delete;
  BoundedLane& operator=(const BoundedLane&) = delete;

  // Runs `task`, which holds `bytes`, some time later. Returns RESOURCE_EXHAUSTED, BUSY, with a
  // retry delay if too much waits; the task is then gone. One alone is taken, whatever it holds.
  absl::Status Submit(Task task, int64_t bytes = 0);

  // Puts the rest of a task that was taken, and does its work in pieces, behind those that wait. It
  // is never refused.
  void Continue(Task task);

  // Returns how many tasks wait.
  int64_t waiting() const;

 private:
  struct Waiting {
    Task task;
    int64_t bytes;
  };

  void Work(const std::string& name);

  const Limits limits_;
  mutable std::mutex mu_;  // It guards the next four.
  std::condition_variable begin_;
  std::deque<Waiting> waiting_;
  int64_t waiting_bytes_ = 0;
  bool stopping_ = false;
  std::thread thread_;  // It stands last, because it uses the others.
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_BOUNDED_LANE_H_
