// Requests about jobs: from the contract's messages to our types.
#ifndef SALIENT_SERVER_RPC_CONVERT_JOB_SPEC_H_
#define SALIENT_SERVER_RPC_CONVERT_JOB_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "salient/v1/quantization_service.pb.h"
#include "server/jobs/job.h"

namespace salient {

// All files of a job together have at most so much inline.
inline constexpr int64_t kMaxInlineBytes = int64_t{2} << 20;
inline constexpr int kMaxModelFiles = 8192;
inline constexpr int kDefaultPageSize = 50;
inline constexpr int kMaxPageSize = 1000;

// Checks every field for itself; whether they make a job of a model is for JobTable to say. Errors
// name the field as it stands in CreateJobRequest, "spec.quantize.formats[0].bits": BAD_JOB,
// BAD_DIGEST, BAD_PATH, as ToMethod and ToStoredFormat; UNSUPPORTED (UNIMPLEMENTED) for what this
// server does not do, with what to use instead.
absl::StatusOr<JobSpec> ToJobSpec(const v1::JobSpec& message);

struct ListRequest {
  int page_size = kDefaultPageSize;
  std::string page_token;
  std::vector<JobState> states;  // If it is empty all are listed.
};

// Converts a request to list jobs. Its reason is BAD_JOB.
absl::StatusOr<ListRequest> ToListRequest(const v1::ListJobsRequest& request);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_JOB_SPEC_H_
