#include "server/jobs/blob_arrival.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

// A stop or a change that nobody told of is found after this long.
constexpr auto kLookPeriod = std::chrono::milliseconds(100);

}  // namespace

template <typename Arrived>
absl::Status BlobArrival::Wait(absl::string_view file, const Digest& digest, Arrived arrived,
                               Check check) {
  if (absl::Status stopped = stop_.Check(); !stopped.ok()) return stopped;
  BlobStatus blob = store_.Status(digest);
  if (arrived(blob)) return absl::OkStatus();

  MutexLock lock(mu_);
  if (waiting_++ == 0) waiting_since_ = absl::Now();
  int64_t committed_bytes = blob.committed_bytes;
  absl::Time last_byte = absl::Now();
  absl::Status status;
  while (true) {
    const int64_t seen = changes_;
    blob = store_.Status(digest);  // It neither waits nor takes a lock of ours.
    if (arrived(blob)) break;
    if (status = stop_.Check(); !status.ok()) break;
    const absl::Time now = absl::Now();
    if (blob.committed_bytes != committed_bytes) {
      committed_bytes = blob.committed_bytes;
      last_byte = now;
    }
    if (now - last_byte >= stall_timeout_) {
      status = CallError(
          absl::StatusCode::kFailedPrecondition, Reason::kMissingBlob,
          absl::StrCat(file, ": blob ", ToString(digest), " has ", committed_bytes, " bytes, and ",
                       "none came for ", absl::FormatDuration(stall_timeout_), "; expected all ",
                       digest.size_bytes));
      break;
    }
    lock.Unlock();
    waits_();
    status = check();
    lock.Lock();
    if (!status.ok()) break;
    const auto end = std::chrono::steady_clock::now() + kLookPeriod;
    while (changes_ == seen && changed_.WaitUntil(mu_, end)) {
    }
  }
  if (--waiting_ == 0) waited_ += absl::Now() - waiting_since_;
  return status;
}

absl::Status BlobArrival::WaitForBytes(absl::string_view file, const Digest& digest,
                                       int64_t end_bytes, Check check) {
  return Wait(
      file, digest,
      [end_bytes](const BlobStatus& blob) { return blob.committed_bytes >= end_bytes; }, check);
}

absl::Status BlobArrival::WaitUntilComplete(absl::string_view file, const Digest& digest) {
  absl::Status status = Wait(
      file, digest, [](const BlobStatus& blob) { return blob.complete; },
      [] { return absl::OkStatus(); });
  if (!status.ok() || store_.IsVerified(digest)) return status;
  status = store_.Verify(digest, [this] { return stop_.Check(); });
  if (absl::IsNotFound(status)) return WithReason(status, Reason::kMissingBlob);
  if (!absl::IsDataLoss(status)) return status;
  return WithReason(absl::DataLossError(absl::StrCat(file, ": ", status.message())),
                    Reason::kBlobDamaged);
}

void BlobArrival::LookAgain() {
  {
    const MutexLock lock(mu_);
    ++changes_;
  }
  changed_.NotifyAll();
}

absl::Duration BlobArrival::Waited() const {
  const MutexLock lock(mu_);
  return waited_ + (waiting_ > 0 ? absl::Now() - waiting_since_ : absl::ZeroDuration());
}

}  // namespace salient
