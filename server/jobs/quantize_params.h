// Turns a QuantizeTask into what the core's functions want.
#ifndef SALIENT_SERVER_JOBS_QUANTIZE_PARAMS_H_
#define SALIENT_SERVER_JOBS_QUANTIZE_PARAMS_H_

#include <cstddef>
#include <optional>

#include "core/quantize/quantize_model.h"
#include "core/result/plain_dtypes.h"
#include "core/result/quantized_checkpoint.h"
#include "core/result/raised_group.h"
#include "server/jobs/job.h"

namespace salient {

// Returns all of them but the work_directory.
QuantizeModelParams ModelParams(const QuantizeTask& task);

// Returns those of format `output`, an index; see QuantizedCheckpointParams for the others.
QuantizedCheckpointParams CheckpointParams(const QuantizeTask& task, size_t output,
                                           std::optional<PlainDTypes> dtypes,
                                           std::vector<RaisedGroup> raised = {});

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_QUANTIZE_PARAMS_H_
