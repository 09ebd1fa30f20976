// When a stream is finished: once, after its status is decided and while nobody uses it.
#ifndef SALIENT_SERVER_WORKERS_STREAM_END_H_
#define SALIENT_SERVER_WORKERS_STREAM_END_H_

#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/parallel/mutex.h"

namespace salient {

// A transport (gRPC) destroys the context of a call when the call is finished and its reactions are
// over, and a server that stops destroys what its calls share when the last of them is finished.
// Any other thread may finish a call whose status is known. So whatever is done for a stream
// (starting a read or a write, asking or cancelling the context, counting in metrics) is done
// inside an operation, inside a reaction, or by the one thread that can decide the status. A
// reactor that must not be finished while a write is outstanding keeps an operation for it. It is
// thread-safe.
class StreamEnd {
 public:
  // Keeps the stream from being finished as long as it lives. The end of the last one finishes a
  // stream whose status is decided, so it must not end under a lock that the stream's reactions
  // take. Whoever holds one also holds the object that the StreamEnd is a member of.
  class Operation {
   public:
    Operation() = default;
    Operation(Operation&& other) noexcept : end_(other.Release()) {}
    Operation& operator=(Operation&& other) noexcept;
    ~Operation();

    // Tells whether the stream may be used. It may not once it was finished.
    explicit operator bool() const { return end_ != nullptr; }

   private:
    friend class StreamEnd;
    explicit Operation(StreamEnd* end) : end_(end) {}
    StreamEnd* Release();

    StreamEnd* end_ = nullptr;
  };

  // `finish` runs once. The StreamEnd may be destroyed while it runs.
  explicit StreamEnd(absl::AnyInvocable<void(const absl::Status&)> finish)
      : finish_(std::move(finish)) {}
  StreamEnd(const StreamEnd&) = delete;
  StreamEnd& operator=(const StreamEnd&) = delete;

  // Begins an operation. Gives an empty one when the stream was finished.
  Operation Begin();

  // Sets what the stream will be finished with. Returns false if that was decided before. To be
  // called inside an operation, whose end then is what finishes the stream.
  bool Decide(const absl::Status& status);

  // Returns what was decided, if anything was.
  std::optional<absl::Status> decided() const;

 private:
  void EndOperation();

  mutable Mutex mu_;
  absl::AnyInvocable<void(const absl::Status&)> finish_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mu_);
  int operations_ ABSL_GUARDED_BY(mu_) = 0;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_STREAM_END_H_
