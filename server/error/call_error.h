// Says why a call failed, in words that software reads: carried inside absl::Status as payloads
// from where a fault is found to where it becomes google.rpc.Status and a metric label.
#ifndef SALIENT_SERVER_ERROR_CALL_ERROR_H_
#define SALIENT_SERVER_ERROR_CALL_ERROR_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace salient {

// A closed set: ErrorInfo.reason for clients, the label of salient_errors_total for operators.
enum class Reason {
  kMessageOrder,      // A message came where another was expected, or cannot be parsed.
  kBadMethod,         // A parameter of the method is at fault.
  kBadFormat,         // A parameter of the weight format is at fault.
  kBadHeader,         // A field of a group's header, or an index into it, is at fault.
  kBadShape,          // Sizes do not fit each other.
  kDuplicateName,     // A group or a Linear stands twice.
  kOffset,            // A chunk is not the next one.
  kPosition,          // A batch's tokens are not the next ones.
  kChunkTooLarge,     // A chunk is above kMaxChunkBytes.
  kRequestTooLarge,   // A request is longer than its kind may be.
  kChunkCrc,          // A chunk does not have its checksum.
  kMissingBytes,      // A weight or file is not whole.
  kNonFinite,         // A value is NaN or infinity.
  kNoTokens,          // A group has no calibration.
  kDuplicateRow,      // A calibration row was counted twice.
  kStatistics,        // A statistics file cannot be read or does not fit.
  kUnsupported,       // The server does not have this method or format.
  kUnimplemented,     // The server does not have this rpc.
  kUnknownJob,        // There is no such job.
  kUnknownBlob,       // There is no such blob.
  kMissingBlob,       // A blob that is needed is not there.
  kDigestMismatch,    // Bytes do not have their digest.
  kBlobDamaged,       // A stored blob no longer has its digest.
  kUploadTakenOver,   // Another writer sends the blob.
  kSpoolFull,         // The store has no room.
  kQueueFull,         // Too many jobs wait.
  kJobExists,         // A job_id or request_id names another job.
  kJobNotEnded,       // The job would have to have ended.
  kBadJob,            // A field of a job, or of a request about jobs, is at fault.
  kBadDigest,         // A digest, offset or limit of a request about blobs is at fault.
  kBadModel,          // Config, index, shards or tensors of a model are at fault.
  kBadTokens,         // Token ids of calibration or evaluation are at fault.
  kBadPath,           // A path is outside its root, or nothing usable is there.
  kMemory,            // The work needs more memory than it may ever have.
  kBusy,              // There is no room now.
  kClientNotReading,  // Results wait and nobody reads them.
  kClientIdle,        // The client stopped sending.
  kCancelled,         // The client cancelled, or its connection broke.
  kDeadlineExceeded,  // The client's deadline passed.
  kDraining,          // The server is stopping.
  kInternal,          // The fault is ours.
};

// Returns "MESSAGE_ORDER", ...
absl::string_view Name(Reason reason);

// Returns all of them, in order of declaration.
absl::Span<const Reason> AllReasons();

// Makes a status with a reason. `message` names what is at fault, its value and what was expected.
absl::Status CallError(absl::StatusCode code, Reason reason, absl::string_view message);

// Makes one of the most frequent code, INVALID_ARGUMENT.
absl::Status InvalidCall(Reason reason, absl::string_view message);

// Adds the path of the field at fault, e.g. "group.linears[1].out_features". It changes nothing of
// OK.
absl::Status WithField(absl::Status status, absl::string_view field);

// Adds one ErrorInfo metadata entry, e.g. {"group", "model.layers.0.mlp"}. The first entry under
// a key stays.
absl::Status WithMetadata(absl::Status status, absl::string_view key, absl::string_view value);

// Says that the same call may succeed after `delay`.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);

// Names the quota that was exceeded, e.g. "call_memory_bytes".
absl::Status WithQuota(absl::Status status, absl::string_view subject);

// Gives a status that has none, such as one of the core's, a reason.
absl::Status WithReason(absl::Status status, Reason reason);

// Holds what the payloads say.
struct CallErrorDetails {
  Reason reason = Reason::kInternal;
  std::string field;  // It is empty for none.
  std::map<std::string, std::string> metadata;
  std::optional<absl::Duration> retry_after;
  std::string quota;  // It is empty for none.
};

// Returns the details of a status that is not OK. Without payloads the reason follows from the
// code: CANCELLED and DEADLINE_EXCEEDED mean themselves, all others INTERNAL.
CallErrorDetails DetailsOf(const absl::Status& status);

}  // namespace salient

#endif  // SALIENT_SERVER_ERROR_CALL_ERROR_H_
