// Takes Ctrl-C as a cancelled call instead of a dead process.
#ifndef SALIENT_CLIENT_TERMINAL_INTERRUPT_H_
#define SALIENT_CLIENT_TERMINAL_INTERRUPT_H_

#include <csignal>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace salient::client {

// Waits for SIGINT, SIGTERM and SIGHUP (unless that was ignored before, as nohup does), and for
// SIGPIPE, on a thread of its own. At most one exists, made before any other thread, because
// threads inherit the mask that keeps the signals away from them. The first signal cancels what is
// being watched; a second one but SIGPIPE ends the process at once with exit code 130.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // Returns whether a signal came. It is thread-safe.
  bool Raised() const;

  // While it lives, a signal runs `cancel` once on the signal thread; a signal that came before
  // runs it in the constructor. At most one lives at a time.
  class Watch {
   public:
    Watch(Interrupt& interrupt, std::function<void()> cancel);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    Interrupt& interrupt_;
  };

 private:
  void WaitForSignals();
  void Raise(bool again);

  const sigset_t signals_;
  int signal_fd_ = -1;
  const int stop_fd_;
  const int pipe_fd_;  // It is readable after a SIGPIPE.
  mutable absl::Mutex mutex_;
  bool raised_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> cancel_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_INTERRUPT_H_
