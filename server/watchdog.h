// Looks now and then whether the server can do what it says it can.
#ifndef SALIENT_SERVER_WATCHDOG_H_
#define SALIENT_SERVER_WATCHDOG_H_

#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/parallel/mutex.h"

namespace salient {

// Is thread-safe, except Look.
class Watchdog {
 public:
  struct Condition {
    bool store_writable = true;
    bool reachable = true;  // New connections are answered.
  };
  struct Stats {
    Condition condition;
    int64_t failed_self_checks_total = 0;
  };
  // A check may wait for a disk or the network. Returns RESOURCE_EXHAUSTED of one says nothing
  // about what it looks at.
  struct Checks {
    absl::AnyInvocable<absl::Status()> store;
    absl::AnyInvocable<absl::Status()> connection;
  };

  // The server counts as unreachable after the first number of connections in a row without an
  // answer; after the second `give_up` is called, once.
  static constexpr int kFailuresUntilUnreachable = 3;
  static constexpr int kFailuresUntilGivenUp = 6;

  // Calls `tell` when the condition changes. Both may be null.
  Watchdog(Checks checks, absl::AnyInvocable<void(Condition)> tell,
           absl::AnyInvocable<void()> give_up);

  void Look();

  Stats GetStats() const;

 private:
  bool LooksWritable();
  bool LooksReachable();

  Checks checks_;
  absl::AnyInvocable<void(Condition)> tell_;
  absl::AnyInvocable<void()> give_up_;
  int failures_ = 0;  // They came in a row.
  mutable Mutex mu_;
  Stats stats_ ABSL_GUARDED_BY(mu_);
};

// Writes a file into `directory` and removes it. A full disk is no error: what needs room says so
// itself, and goes on when there is some.
absl::Status CheckWritable(const std::string& directory);

}  // namespace salient

#endif  // SALIENT_SERVER_WATCHDOG_H_
