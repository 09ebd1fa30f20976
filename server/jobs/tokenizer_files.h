// Reads the tokenizer of a job's model, which is no part of the work but tells of its vocabulary.
#ifndef SALIENT_SERVER_JOBS_TOKENIZER_FILES_H_
#define SALIENT_SERVER_JOBS_TOKENIZER_FILES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/jobs/running_job.h"

namespace salient {

// Returns the highest id that the tokenizer beside the model gives to a token. Waits for files that
// are arriving. NOT_FOUND if the model has no file with a vocabulary; INVALID_ARGUMENT, without a
// reason, for one that cannot be understood; else errors as ReadSource, BlobArrival and
// ReadTextFile.
absl::StatusOr<int64_t> ReadHighestTokenId(RunningJob& job);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_TOKENIZER_FILES_H_
