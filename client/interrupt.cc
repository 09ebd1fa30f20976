#include "client/interrupt.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <utility>

#include "client/errors.h"

namespace salient::client {
namespace {

sigset_t WatchedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

}  // namespace

Interrupt::Interrupt() : signal_fd_(-1), stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  const sigset_t signals = WatchedSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  thread_ = std::thread([this] { WaitForSignals(); });
}

Interrupt::~Interrupt() {
  const uint64_t one = 1;
  // An eventfd takes 2^64 - 2 of these before it blocks or fails.
  [[maybe_unused]] const ssize_t written = write(stop_fd_, &one, sizeof(one));
  thread_.join();
  close(signal_fd_);
  close(stop_fd_);
  const sigset_t signals = WatchedSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

bool Interrupt::Raised() const {
  absl::MutexLock lock(&mutex_);
  return raised_;
}

void Interrupt::WaitForSignals() {
  for (;;) {
    pollfd fds[] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) continue;

    absl::MutexLock lock(&mutex_);
    // Someone who asks twice does not want to wait for a clean end.
    if (raised_) _exit(kExitInterrupted);
    raised_ = true;
    if (cancel_) std::exchange(cancel_, nullptr)();
  }
}

Interrupt::Watch::Watch(Interrupt& interrupt, std::function<void()> cancel)
    : interrupt_(interrupt) {
  absl::MutexLock lock(&interrupt_.mutex_);
  if (interrupt_.raised_) {
    cancel();
  } else {
    interrupt_.cancel_ = std::move(cancel);
  }
}

Interrupt::Watch::~Watch() {
  // Once the lock is ours, cancel is neither running nor going to run.
  absl::MutexLock lock(&interrupt_.mutex_);
  interrupt_.cancel_ = nullptr;
}

}  // namespace salient::client
