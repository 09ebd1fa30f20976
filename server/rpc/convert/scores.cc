#include "server/rpc/convert/scores.h"

#include "core/evaluate/evaluate_model.h"

namespace salient {

v1::ModelScore ToProto(const ModelEvaluation& evaluation) {
  v1::ModelScore message;
  message.set_negative_log_likelihood(evaluation.likelihood.negative_log_likelihood);
  message.set_token_count(evaluation.likelihood.tokens);
  if (evaluation.likelihood.tokens > 0) message.set_perplexity(evaluation.likelihood.Perplexity());
  if (evaluation.divergence.tokens > 0) {
    message.set_kl(evaluation.divergence.MeanKl());
    message.set_top1_agreement(evaluation.divergence.Top1Agreement());
  }
  message.mutable_layer_errors()->Add(evaluation.layer_errors.begin(),
                                      evaluation.layer_errors.end());
  return message;
}

v1::Evaluation ToProto(const JobEvaluation& evaluation) {
  v1::Evaluation message;
  *message.mutable_model() = ToProto(evaluation.model);
  if (evaluation.reference.has_value()) {
    *message.mutable_reference() = ToProto(*evaluation.reference);
  }
  if (evaluation.round_to_nearest.has_value()) {
    *message.mutable_round_to_nearest() = ToProto(*evaluation.round_to_nearest);
  }
  return message;
}

}  // namespace salient
