// Studies of salient channels: from the contract's messages to our types and back.
#ifndef SALIENT_SERVER_RPC_CONVERT_STUDY_H_
#define SALIENT_SERVER_RPC_CONVERT_STUDY_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/study/study_model.h"
#include "salient/v1/job.pb.h"
#include "server/jobs/job.h"

namespace salient {

// `path` is where the message stands in the request, "spec.study". BAD_JOB for tokens that are not
// set, a share outside 0 to 1, a dtype that does not exist; as ToTokens and ToWeightFormat;
// BAD_FORMAT for one range of a whole tensor and for quantized activations, which a study has not.
absl::StatusOr<StudyTask> ToStudy(absl::string_view path, const v1::StudyTask& message);

v1::Study ToProto(const ModelStudy& study);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_STUDY_H_
