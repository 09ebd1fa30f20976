// Names of jobs, and the tokens that lead from one page of a list to the next.
#ifndef SALIENT_SERVER_JOBS_JOB_NAMES_H_
#define SALIENT_SERVER_JOBS_JOB_NAMES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient {

// Checks that a name is a DNS label, so that the name of a Kubernetes Job is one:
// [a-z]([a-z0-9-]{0,61}[a-z0-9])?. Returns INVALID_ARGUMENT, BAD_JOB, otherwise. The empty id, of a
// job that is to be named here, is fine.
absl::Status CheckJobId(absl::string_view job_id);
// Refuses more than 128 bytes.
absl::Status CheckRequestId(absl::string_view request_id);

// Returns "job-" and 16 random hexadecimal digits.
std::string NewJobId();

// Returns "jobs/{job_id}".
std::string NameOfJob(absl::string_view job_id);

// Opaque to clients: a position and what tells it from a made-up or foreign one.
class PageTokens {
 public:
  PageTokens();  // Its tokens are those of this process.
  std::string Encode(int64_t position) const;
  // Returns INVALID_ARGUMENT, BAD_JOB, for a token that Encode did not make.
  absl::StatusOr<int64_t> Decode(absl::string_view token) const;

 private:
  uint64_t Check(uint64_t position) const;
  uint64_t salt_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_NAMES_H_
