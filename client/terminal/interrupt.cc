#include "client/terminal/interrupt.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <utility>

#include "client/terminal/errors.h"
#include "core/file/signals.h"

namespace salient::client {
namespace {

sigset_t WatchedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  if (!IsIgnored(SIGHUP)) sigaddset(&signals, SIGHUP);
  return signals;
}

// A handler knows no object. SIGPIPE goes to the thread that wrote, where no signalfd sees it.
std::atomic<int> closed_pipe_fd = -1;

void TellOfClosedPipe(int /*signal*/) {
  const int error = errno;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(closed_pipe_fd.load(), &one, sizeof(one));
  errno = error;
}

void HandleClosedPipes() {
  struct sigaction action = {};
  action.sa_handler = TellOfClosedPipe;
  action.sa_flags = SA_RESTART;
  sigaction(SIGPIPE, &action, nullptr);
}

}  // namespace

Interrupt::Interrupt()
    : signals_(WatchedSignals()),
      stop_fd_(eventfd(0, EFD_CLOEXEC)),
      pipe_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  signal_fd_ = signalfd(-1, &signals_, SFD_CLOEXEC);
  closed_pipe_fd = pipe_fd_;
  HandleClosedPipes();
  thread_ = std::thread([this] { WaitForSignals(); });
}

Interrupt::~Interrupt() {
  const uint64_t one = 1;
  // An eventfd takes 2^64 - 2 of these before it blocks or fails.
  [[maybe_unused]] const ssize_t written = write(stop_fd_, &one, sizeof(one));
  thread_.join();
  IgnoreSignalsOfWrites();
  close(signal_fd_);
  close(stop_fd_);
  close(pipe_fd_);
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

bool Interrupt::Raised() const {
  absl::MutexLock lock(&mutex_);
  return raised_;
}

void Interrupt::WaitForSignals() {
  for (;;) {
    pollfd fds[] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}, {pipe_fd_, POLLIN, 0}};
    if (poll(fds, 3, -1) < 0) continue;
    if (fds[1].revents != 0) return;
    uint64_t closed = 0;
    if (read(pipe_fd_, &closed, sizeof(closed)) == sizeof(closed)) {
      // A message about the interrupt may hit the closed pipe, too; that is no second request.
      Raise(/*again=*/false);
    }
    signalfd_siginfo info;
    if (fds[0].revents != 0 && read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
      Raise(/*again=*/true);
    }
  }
}

void Interrupt::Raise(bool again) {
  absl::MutexLock lock(&mutex_);
  // Someone who asks twice does not want to wait for a clean end.
  if (raised_ && again) _exit(kExitInterrupted);
  raised_ = true;
  if (cancel_) std::exchange(cancel_, nullptr)();
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
