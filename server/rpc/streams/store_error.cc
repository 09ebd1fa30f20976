#include "server/rpc/streams/store_error.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"
#include "server/observe/logs.h"

namespace salient {
namespace {

constexpr absl::Duration kRetryWhenFull = absl::Seconds(30);

}  // namespace

absl::Status ToStoreError(absl::Status status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return status;
    case absl::StatusCode::kNotFound:
      return WithReason(std::move(status), Reason::kUnknownBlob);
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return WithReason(std::move(status), Reason::kBadDigest);
    case absl::StatusCode::kAborted:
      return WithReason(std::move(status), Reason::kUploadTakenOver);
    case absl::StatusCode::kDataLoss:
      return WithReason(std::move(status), Reason::kBlobDamaged);
    case absl::StatusCode::kResourceExhausted:
      status = WithReason(std::move(status), Reason::kSpoolFull);
      return WithQuota(WithRetryAfter(std::move(status), kRetryWhenFull), "store_bytes");
    default:
      LogWarning(absl::StrCat("the store failed: ", status.ToString()));
      return CallError(absl::StatusCode::kInternal, Reason::kInternal,
                       "the store of blobs failed; its server's log says how");
  }
}

}  // namespace salient
