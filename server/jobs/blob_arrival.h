// Waits for bytes that clients are still sending.
#ifndef SALIENT_SERVER_JOBS_BLOB_ARRIVAL_H_
#define SALIENT_SERVER_JOBS_BLOB_ARRIVAL_H_

#include <cstdint>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/parallel/mutex.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/workers/cancel_token.h"

namespace salient {

// Serves one job. It is thread-safe, but one thread waits at a time.
class BlobArrival {
 public:
  // Borrows both. `waits` is called again and again, without locks, by a thread that waits. A blob
  // of which nothing came for `stall_timeout` while somebody waited for it is given up.
  BlobArrival(BlobStore& store, const CancelToken& stop, absl::Duration stall_timeout,
              absl::AnyInvocable<void()> waits)
      : store_(store), stop_(stop), stall_timeout_(stall_timeout), waits_(std::move(waits)) {}

  // Returns when the first `end_bytes` of the blob are committed. `file` names it in errors.
  // The stop's error; FAILED_PRECONDITION, MISSING_BLOB, when it is given up; what `check` says,
  // which is asked again and again, without locks, while it waits.
  using Check = absl::FunctionRef<absl::Status()>;
  absl::Status WaitForBytes(absl::string_view file, const Digest& digest, int64_t end_bytes,
                            Check check);

  // Returns when the blob is complete and verified, which reads it if an earlier process did that.
  // Its errors are those of WaitForBytes; DATA_LOSS, BLOB_DAMAGED, if it does not have its digest.
  absl::Status WaitUntilComplete(absl::string_view file, const Digest& digest);

  // Lets those who wait look again: something came, or the job was stopped.
  void LookAgain();

  // Returns the time during which somebody waited.
  absl::Duration Waited() const;

 private:
  template <typename Arrived>
  absl::Status Wait(absl::string_view file, const Digest& digest, Arrived arrived, Check check);

  BlobStore& store_;
  const CancelToken& stop_;
  const absl::Duration stall_timeout_;
  absl::AnyInvocable<void()> waits_;  // Only the thread that waits calls it.
  mutable Mutex mu_;
  ConditionVariable changed_;
  int64_t changes_ ABSL_GUARDED_BY(mu_) = 0;
  int waiting_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time waiting_since_ ABSL_GUARDED_BY(mu_);
  absl::Duration waited_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_BLOB_ARRIVAL_H_
