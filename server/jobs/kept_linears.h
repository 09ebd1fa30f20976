// Says in sentences, before any work, what a result leaves as it is although nobody asked for
// that.
#ifndef SALIENT_SERVER_JOBS_KEPT_LINEARS_H_
#define SALIENT_SERVER_JOBS_KEPT_LINEARS_H_

#include <string>
#include <vector>

#include "core/model/model.h"
#include "core/result/quantized_checkpoint.h"

namespace salient {

// Returns one sentence for each cause, however many Linears it concerns: which of them in how many
// blocks stay F16, why, and a group size that all of them could be quantized with, if there is one.
// None for what an override skips.
std::vector<std::string> KeptWarnings(const Model& model, const QuantizedCheckpointParams& params);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_KEPT_LINEARS_H_
