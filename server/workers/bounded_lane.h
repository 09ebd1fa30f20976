// Runs a thread beside the pool, for work that waits for no message and no message for it.
#ifndef SALIENT_SERVER_WORKERS_BOUNDED_LANE_H_
#define SALIENT_SERVER_WORKERS_BOUNDED_LANE_H_

#include <cstdint>
#include <deque>
#include <list>
#include <string>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/parallel/mutex.h"

namespace salient {

// Does one task after the other: of each client in the order in which they came, and of all clients
// in turn, so that whoever sends many holds up others by one. It is thread-safe.
class BoundedLane {
 public:
  using Task = absl::AnyInvocable<void()>;

  // The limits say how much may wait: tasks, and what they hold. One client may take half of it.
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
  // The house is a client, too, whose name is empty, and may take all.
  absl::Status Submit(Task task, int64_t bytes = 0, absl::string_view client = "");

  // Puts the rest of a task that was taken, and does its work in pieces, behind those of the house
  // that wait. It is never refused.
  void Continue(Task task);

  // Returns how many tasks wait.
  int64_t waiting() const;

 private:
  struct Waiting {
    Task task;
    int64_t bytes;
  };
  struct Client {
    std::string name;
    std::deque<Waiting> waiting;  // never empty
    int64_t bytes = 0;
  };

  std::list<Client>::iterator Find(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasRoom(const Client* client, int64_t bytes, bool is_house) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Add(Waiting task, absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Task TakeFirst() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void Work(const std::string& name);

  const Limits limits_;
  mutable Mutex mu_;
  ConditionVariable begin_;
  std::list<Client> clients_ ABSL_GUARDED_BY(mu_);  // whose turn it is first
  int64_t waiting_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t waiting_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // It stands last, because it uses the others.
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_BOUNDED_LANE_H_
