// Downloads the files of a job's result to a directory.
#ifndef SALIENT_CLIENT_JOBS_RESULT_DOWNLOAD_H_
#define SALIENT_CLIENT_JOBS_RESULT_DOWNLOAD_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "client/jobs/result_directory.h"
#include "client/transfer/call_group.h"
#include "client/transfer/retry.h"
#include "salient/v1/job.pb.h"

namespace salient::client {

// Writes one file part by part, each verified, and holds the whole against its digest. `taken` is
// told of bytes.
//
// Errors: of DownloadBlob and ResultDirectory; INTERNAL if the parts are not the file.
absl::Status DownloadResultFile(const JobServer& server, CallGroup& calls,
                                const v1::ResultFile& file, ResultDirectory& directory,
                                absl::FunctionRef<void(int64_t bytes)> taken);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_RESULT_DOWNLOAD_H_
