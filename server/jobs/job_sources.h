// Reads the blobs of a job: whole, and with the bytes that their digests say.
#ifndef SALIENT_SERVER_JOBS_JOB_SOURCES_H_
#define SALIENT_SERVER_JOBS_JOB_SOURCES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/jobs/arriving_checkpoint.h"
#include "server/jobs/running_job.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"

namespace salient {

// Reads a whole blob; `file` names it in errors. Returns DATA_LOSS, BLOB_DAMAGED, if it does not
// have its digest: it is then missing. Returns NOT_FOUND, MISSING_BLOB.
absl::StatusOr<std::string> ReadSource(absl::string_view file, const Digest& digest,
                                       BlobStore& store);

// Waits until all that the job needs is complete and verified. Its errors are those of BlobArrival.
absl::Status WaitForSources(RunningJob& job);

// Verifies what is complete already: nobody computes for hours from what has rotted.
absl::Status VerifySourcesHere(RunningJob& job);

// Says what a result, or an error, is worth that was made from bytes nobody had verified: waits
// until the files that were read are complete and compares. Returns `status` if the bytes were
// those of the blobs, or could not matter; ABORTED if the job must begin anew with the whole.
absl::Status HoldAgainstBlobs(RunningJob& job, const ArrivingCheckpoint& arriving,
                              const absl::Status& status);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_SOURCES_H_
