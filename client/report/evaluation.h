// Says how well a model predicts, for people and for machines.
#ifndef SALIENT_CLIENT_REPORT_EVALUATION_H_
#define SALIENT_CLIENT_REPORT_EVALUATION_H_

#include <string>

#include "salient/v1/job.pb.h"

namespace salient::client {

// Writes a line a model: perplexity, KL and top-1 agreement against the source; then the error of
// each block, if there is a source.
std::string EvaluationTable(const std::string& result, const std::string& source,
                            const v1::Evaluation& evaluation);

// Describes the table's round-to-nearest in a line; empty if `evaluation` has none.
std::string NearestText(const v1::EvaluateTask& task, const v1::Evaluation& evaluation);

// Returns {source: {perplexity}, result: {perplexity}, rtn: {perplexity}, kl, top1_agreement,
// rtn_kl, rtn_top1_agreement, layers: [{block, error, rtn_error}], tokens, seconds}. What was not
// asked for is left out.
std::string EvaluationJson(double seconds, const v1::Evaluation& evaluation);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_REPORT_EVALUATION_H_
