#include "server/error/call_error.h"

#include <cstdint>
#include <iterator>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace salient {
namespace {

// Payload URLs of absl::Status; a metadata key follows its prefix.
constexpr absl::string_view kReasonUrl = "salient/reason";
constexpr absl::string_view kFieldUrl = "salient/field";
constexpr absl::string_view kMetadataPrefix = "salient/metadata/";
constexpr absl::string_view kRetryUrl = "salient/retry_milliseconds";
constexpr absl::string_view kQuotaUrl = "salient/quota";

struct Entry {
  Reason reason;
  absl::string_view name;
};

constexpr Entry kEntries[] = {
    {Reason::kMessageOrder, "MESSAGE_ORDER"},
    {Reason::kBadMethod, "BAD_METHOD"},
    {Reason::kBadFormat, "BAD_FORMAT"},
    {Reason::kBadHeader, "BAD_HEADER"},
    {Reason::kBadShape, "BAD_SHAPE"},
    {Reason::kDuplicateName, "DUPLICATE_NAME"},
    {Reason::kOffset, "OFFSET"},
    {Reason::kPosition, "POSITION"},
    {Reason::kChunkTooLarge, "CHUNK_TOO_LARGE"},
    {Reason::kRequestTooLarge, "REQUEST_TOO_LARGE"},
    {Reason::kChunkCrc, "CHUNK_CRC"},
    {Reason::kMissingBytes, "MISSING_BYTES"},
    {Reason::kNonFinite, "NON_FINITE"},
    {Reason::kNoTokens, "NO_TOKENS"},
    {Reason::kDuplicateRow, "DUPLICATE_ROW"},
    {Reason::kStatistics, "STATISTICS"},
    {Reason::kUnsupported, "UNSUPPORTED"},
    {Reason::kUnimplemented, "UNIMPLEMENTED"},
    {Reason::kUnknownJob, "UNKNOWN_JOB"},
    {Reason::kUnknownBlob, "UNKNOWN_BLOB"},
    {Reason::kMissingBlob, "MISSING_BLOB"},
    {Reason::kDigestMismatch, "DIGEST_MISMATCH"},
    {Reason::kBlobDamaged, "BLOB_DAMAGED"},
    {Reason::kUploadTakenOver, "UPLOAD_TAKEN_OVER"},
    {Reason::kSpoolFull, "SPOOL_FULL"},
    {Reason::kQueueFull, "QUEUE_FULL"},
    {Reason::kJobExists, "JOB_EXISTS"},
    {Reason::kJobNotEnded, "JOB_NOT_ENDED"},
    {Reason::kBadJob, "BAD_JOB"},
    {Reason::kBadDigest, "BAD_DIGEST"},
    {Reason::kBadModel, "BAD_MODEL"},
    {Reason::kBadTokens, "BAD_TOKENS"},
    {Reason::kBadPath, "BAD_PATH"},
    {Reason::kMemory, "MEMORY"},
    {Reason::kBusy, "BUSY"},
    {Reason::kClientNotReading, "CLIENT_NOT_READING"},
    {Reason::kClientIdle, "CLIENT_IDLE"},
    {Reason::kCancelled, "CANCELLED"},
    {Reason::kDeadlineExceeded, "DEADLINE_EXCEEDED"},
    {Reason::kDraining, "DRAINING"},
    {Reason::kInternal, "INTERNAL"},
};

absl::Status WithPayload(absl::Status status, absl::string_view url, absl::string_view value) {
  if (!status.ok()) status.SetPayload(url, absl::Cord(value));
  return status;
}

}  // namespace

absl::string_view Name(Reason reason) { return kEntries[static_cast<size_t>(reason)].name; }

absl::Span<const Reason> AllReasons() {
  static const auto* const reasons = [] {
    auto* all = new std::vector<Reason>;
    for (const Entry& entry : kEntries) all->push_back(entry.reason);
    return all;
  }();
  return *reasons;
}

absl::Status CallError(absl::StatusCode code, Reason reason, absl::string_view message) {
  return WithReason(absl::Status(code, message), reason);
}

absl::Status InvalidCall(Reason reason, absl::string_view message) {
  return CallError(absl::StatusCode::kInvalidArgument, reason, message);
}

absl::Status WithReason(absl::Status status, Reason reason) {
  if (status.GetPayload(kReasonUrl).has_value()) return status;
  return WithPayload(std::move(status), kReasonUrl, absl::StrCat(static_cast<int>(reason)));
}

absl::Status WithField(absl::Status status, absl::string_view field) {
  return WithPayload(std::move(status), kFieldUrl, field);
}

absl::Status WithMetadata(absl::Status status, absl::string_view key, absl::string_view value) {
  const std::string url = absl::StrCat(kMetadataPrefix, key);
  if (status.GetPayload(url).has_value()) return status;
  return WithPayload(std::move(status), url, value);
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  return WithPayload(std::move(status), kRetryUrl, absl::StrCat(absl::ToInt64Milliseconds(delay)));
}

absl::Status WithQuota(absl::Status status, absl::string_view subject) {
  return WithPayload(std::move(status), kQuotaUrl, subject);
}

CallErrorDetails DetailsOf(const absl::Status& status) {
  CallErrorDetails details;
  if (absl::IsCancelled(status)) details.reason = Reason::kCancelled;
  if (absl::IsDeadlineExceeded(status)) details.reason = Reason::kDeadlineExceeded;
  status.ForEachPayload([&details](absl::string_view url, const absl::Cord& cord) {
    const std::string value(cord);
    int64_t number = 0;
    if (url == kReasonUrl) {
      if (absl::SimpleAtoi(value, &number) && number >= 0 &&
          number < static_cast<int64_t>(std::size(kEntries))) {
        details.reason = kEntries[number].reason;
      }
    } else if (url == kFieldUrl) {
      details.field = value;
    } else if (url == kRetryUrl) {
      if (absl::SimpleAtoi(value, &number)) details.retry_after = absl::Milliseconds(number);
    } else if (url == kQuotaUrl) {
      details.quota = value;
    } else if (absl::ConsumePrefix(&url, kMetadataPrefix)) {
      details.metadata[std::string(url)] = value;
    }
  });
  return details;
}

}  // namespace salient
