#include "server/listen/connection_acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <iterator>
#include <utility>
#include <vector>

namespace salient {
namespace {

constexpr int kPauseMilliseconds = 20;

Descriptor OpenReserve() { return Descriptor(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

// Returns the inode of an open socket; 0 if the number is none's, or a file's.
ino_t SocketInode(int number) {
  struct stat info {};
  if (fstat(number, &info) != 0 || !S_ISSOCK(info.st_mode)) return 0;
  return info.st_ino;
}

Descriptor Accept(int listener) {
  return Descriptor(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

// Sets the options that a transport sets on what it accepts itself.
void SetOptions(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  // A peer that vanished while something is sent is noticed as soon as one that is idle.
  constexpr int kUserTimeoutMilliseconds = 10'000;
  setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMilliseconds,
             sizeof(kUserTimeoutMilliseconds));
}

}  // namespace

ConnectionAcceptor::ConnectionAcceptor(ListeningSockets listening, int64_t max_connections,
                                       absl::AnyInvocable<void(int, int)> take)
    : max_connections_(max_connections),
      take_(std::move(take)),
      listening_(std::move(listening)),
      stop_(eventfd(0, EFD_CLOEXEC)),
      reserve_(OpenReserve()),
      thread_([this] { Work(); }) {}

ConnectionAcceptor::~ConnectionAcceptor() { Stop(); }

void ConnectionAcceptor::Stop() {
  std::call_once(stopped_, [this] {
    eventfd_write(stop_.number(), 1);
    thread_.join();
    listening_.sockets.clear();
  });
}

void ConnectionAcceptor::Work() {
  pthread_setname_np(pthread_self(), "salient-accept");
  std::vector<pollfd> polled = {{stop_.number(), POLLIN, 0}};
  for (const Descriptor& socket : listening_.sockets) {
    polled.push_back({socket.number(), POLLIN, 0});
  }
  while (true) {
    if (poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
      poll(nullptr, 0, kPauseMilliseconds);
    }
    if (polled[0].revents != 0) return;
    for (size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents != 0) AcceptAll(polled[i].fd);
    }
  }
}

void ConnectionAcceptor::AcceptAll(int listener) {
  constexpr int kMostAtATime = 64;  // Afterwards it looks whether to stop.
  for (int i = 0; i < kMostAtATime; ++i) {
    Descriptor socket = Accept(listener);
    if (!socket.is_open()) {
      if (errno == EMFILE || errno == ENFILE) {
        AcceptWithReserve(listener);
      } else if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) {
        continue;  // That connection is gone.
      } else if (errno != EAGAIN) {
        poll(nullptr, 0, kPauseMilliseconds);  // Memory is short, most likely.
      }
      return;
    }
    if (IsFull()) {
      Count(&Stats::refused_by_limit_total);
      continue;
    }
    SetOptions(socket.number());
    {
      const MutexLock lock(mu_);
      ++stats_.accepted_total;
      open_[socket.number()] = SocketInode(socket.number());
    }
    take_(listener, socket.Release());
  }
}

// A connection that stays in the queue would keep the listener readable, and its client waiting.
void ConnectionAcceptor::AcceptWithReserve(int listener) {
  reserve_.Close();
  {
    const Descriptor socket = Accept(listener);
    if (socket.is_open()) {
      Count(&Stats::refused_by_system_total);
    } else {
      poll(nullptr, 0, kPauseMilliseconds);  // Another thread was faster.
    }
  }
  reserve_ = OpenReserve();  // If it finds no descriptor, the next round tries again.
}

bool ConnectionAcceptor::IsFull() {
  const MutexLock lock(mu_);
  if (static_cast<int64_t>(open_.size()) < max_connections_) return false;
  for (auto entry = open_.begin(); entry != open_.end();) {
    entry = SocketInode(entry->first) == entry->second ? std::next(entry) : open_.erase(entry);
  }
  return static_cast<int64_t>(open_.size()) >= max_connections_;
}

void ConnectionAcceptor::Count(int64_t Stats::*counter) {
  const MutexLock lock(mu_);
  ++(stats_.*counter);
}

ConnectionAcceptor::Stats ConnectionAcceptor::GetStats() const {
  const MutexLock lock(mu_);
  Stats stats = stats_;
  for (const auto& [number, inode] : open_) {
    if (SocketInode(number) == inode) ++stats.open;
  }
  return stats;
}

}  // namespace salient
