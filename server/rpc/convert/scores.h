// Converts how well models predict: from our types to the contract's messages.
#ifndef SALIENT_SERVER_RPC_CONVERT_SCORES_H_
#define SALIENT_SERVER_RPC_CONVERT_SCORES_H_

#include "core/evaluate/evaluate_model.h"
#include "salient/v1/job.pb.h"
#include "server/jobs/job.h"

namespace salient {

v1::ModelScore ToProto(const ModelEvaluation& evaluation);
v1::Evaluation ToProto(const JobEvaluation& evaluation);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_SCORES_H_
