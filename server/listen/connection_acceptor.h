// Takes connections, as many as allowed, for as long as the process lives.
#ifndef SALIENT_SERVER_LISTEN_CONNECTION_ACCEPTOR_H_
#define SALIENT_SERVER_LISTEN_CONNECTION_ACCEPTOR_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "core/parallel/mutex.h"
#include "server/listen/descriptor.h"
#include "server/listen/listening_sockets.h"

namespace salient {

// A transport that stops listening when descriptors run out once would be deaf for good. This does
// not: it keeps one descriptor in reserve, with which it takes a connection in order to close it.
// It is thread-safe.
class ConnectionAcceptor {
 public:
  struct Stats {
    int64_t open = 0;                     // So many are open now.
    int64_t accepted_total = 0;           // They were handed on.
    int64_t refused_by_limit_total = 0;   // They were closed because as many as allowed were open.
    int64_t refused_by_system_total = 0;  // They were closed because there was no descriptor.
  };

  // `take` is called on a thread of this object with a connected socket that does not block, which
  // it then owns and closes some time.
  ConnectionAcceptor(ListeningSockets listening, int64_t max_connections,
                     absl::AnyInvocable<void(int listener, int socket)> take);
  // Stops, as Stop does.
  ~ConnectionAcceptor();
  ConnectionAcceptor(const ConnectionAcceptor&) = delete;
  ConnectionAcceptor& operator=(const ConnectionAcceptor&) = delete;

  // Closes the listening sockets. Afterwards `take` is not called any more.
  void Stop();

  Stats GetStats() const;

 private:
  void Work();
  void AcceptAll(int listener);
  void AcceptWithReserve(int listener);
  bool IsFull();
  void Count(int64_t Stats::*counter);

  const int64_t max_connections_;
  absl::AnyInvocable<void(int, int)> take_;
  ListeningSockets listening_;
  Descriptor stop_;     // It is readable when the thread is to end.
  Descriptor reserve_;  // Only the thread uses it.

  mutable Mutex mu_;
  Stats stats_ ABSL_GUARDED_BY(mu_);
  // This has the inode of each socket that was handed on, by its descriptor's number. Whoever owns
  // it does not say when it closes it: then the number is free, or another file's. Such entries go
  // when they are looked at.
  mutable std::map<int, ino_t> open_ ABSL_GUARDED_BY(mu_);
  std::once_flag stopped_;
  std::thread thread_;  // It stands last, because it uses the others.
};

}  // namespace salient

#endif  // SALIENT_SERVER_LISTEN_CONNECTION_ACCEPTOR_H_
