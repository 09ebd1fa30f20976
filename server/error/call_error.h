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
  kMessageOrder,      // a message where another was expected, or one that cannot be parsed
  kBadMethod,         // a parameter of the method
  kBadFormat,         // a parameter of the weight format
  kBadHeader,         // a field of a group's header, or an index into it
  kBadShape,          // sizes that do not fit each other
  kDuplicateName,     // a group or a Linear stands twice
  kOffset,            // a chunk is not the next one
  kPosition,          // a batch's tokens are not the next ones
  kChunkTooLarge,     // a chunk above kMaxChunkBytes
  kRequestTooLarge,   // a request longer than its kind may be
  kChunkCrc,          // a chunk does not have its checksum
  kMissingBytes,      // a weight or file is not whole
  kNonFinite,         // NaN or infinity
  kNoTokens,          // a group without calibration
  kDuplicateRow,      // a calibration row counted twice
  kStatistics,        // a statistics file that cannot be read or does not fit
  kUnsupported,       // a method or format this server does not have
  kUnimplemented,     // an rpc this server does not have
  kUnknownJob,        // no such job
  kUnknownBlob,       // no such blob
  kMissingBlob,       // a blob that is needed and not there
  kDigestMismatch,    // bytes that do not have their digest
  kBlobDamaged,       // a stored blob that no longer has its digest
  kUploadTakenOver,   // another writer sends the blob
  kSpoolFull,         // the store has no room
  kQueueFull,         // too many jobs wait
  kJobExists,         // a job_id or request_id that names another job
  kJobNotEnded,       // possible only when the job has ended
  kBadJob,            // a field of a job, or of a request about jobs
  kBadDigest,         // a digest, offset or limit of a request about blobs
  kBadModel,          // config, index, shards or tensors of a model
  kBadTokens,         // token ids of calibration or evaluation
  kBadPath,           // a path outside its root, or nothing usable there
  kMemory,            // needs more memory than it may ever have
  kBusy,              // no room now
  kClientNotReading,  // results wait and nobody reads them
  kClientIdle,        // the client stopped sending
  kCancelled,         // by the client, or its connection broke
  kDeadlineExceeded,  // the client's deadline passed
  kDraining,          // the server is stopping
  kInternal,          // our fault
};

// "MESSAGE_ORDER", ...
absl::string_view Name(Reason reason);

// All of them, in order of declaration.
absl::Span<const Reason> AllReasons();

// A status with a reason. `message` names what is at fault, its value and what was expected.
absl::Status CallError(absl::StatusCode code, Reason reason, absl::string_view message);

// Shorthand for the most frequent code, INVALID_ARGUMENT.
absl::Status InvalidCall(Reason reason, absl::string_view message);

// Adds the path of the field at fault, e.g. "group.linears[1].out_features". No-ops on OK.
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
  std::string field;  // empty: none
  std::map<std::string, std::string> metadata;
  std::optional<absl::Duration> retry_after;
  std::string quota;  // empty: none
};

// Returns the details of a status that is not OK. Without payloads the reason follows from the
// code: CANCELLED and DEADLINE_EXCEEDED mean themselves, all others INTERNAL.
CallErrorDetails DetailsOf(const absl::Status& status);

}  // namespace salient

#endif  // SALIENT_SERVER_ERROR_CALL_ERROR_H_
