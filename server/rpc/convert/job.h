// Converts jobs and their events from our types to the contract's messages.
#ifndef SALIENT_SERVER_RPC_CONVERT_JOB_H_
#define SALIENT_SERVER_RPC_CONVERT_JOB_H_

#include "salient/v1/job.pb.h"
#include "salient/v1/quantization_service.pb.h"
#include "server/jobs/job.h"

namespace salient {

v1::Job ToProto(const JobSnapshot& job);

// Converts it for whoever made it, with its warnings.
v1::CreateJobResponse ToCreated(const JobSnapshot& job);

// Converts the same without what grows with the model: the files of manifests, missing blobs,
// the parts of result files. A page of these fits into a message.
v1::Job ToSummary(const JobSnapshot& job);

v1::JobEvent ToProto(const JobEvent& event);

// Says that the watch lives; `revision` is that of the event before.
v1::JobEvent HeartbeatAt(int64_t revision);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_JOB_H_
