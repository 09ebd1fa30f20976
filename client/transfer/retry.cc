#include "client/transfer/retry.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace salient::client {
namespace {

constexpr int kDamagedAttempts = 3;

}  // namespace

Retry::Retry(const RetryPolicy& policy, CallGroup& group)
    : policy_(policy), group_(group), well_(absl::Now()), delay_(policy.first_delay) {}

void Retry::Succeeded() {
  well_ = absl::Now();
  delay_ = policy_.first_delay;
  damaged_ = 0;
  told_ = false;
}

bool Retry::WaitAfter(const absl::Status& failure) {
  switch (failure.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    // Another writer of the same blob was ahead of us: ask where it stands.
    case absl::StatusCode::kOutOfRange:
      break;
    case absl::StatusCode::kDataLoss:
      if (++damaged_ > kDamagedAttempts) return false;
      break;
    default:
      return false;
  }
  if (absl::Now() - well_ > policy_.patience) return false;
  if (policy_.tell && !told_) policy_.tell(absl::StrCat(failure.message(), "; trying again"));
  told_ = true;
  const bool awake = group_.Sleep(delay_);
  delay_ = std::min(2 * delay_, policy_.longest_delay);
  return awake;
}

}  // namespace salient::client
