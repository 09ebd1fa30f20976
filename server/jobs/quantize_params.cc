#include "server/jobs/quantize_params.h"

#include <utility>

#include "core/result/plain_dtypes.h"
#include "core/result/raised_group.h"

namespace salient {

QuantizeModelParams ModelParams(const QuantizeTask& task) {
  QuantizeModelParams params;
  params.method = task.method;
  params.outputs = task.formats;
  params.compute = task.compute;
  params.seed = task.seed;
  params.strict = task.strict;
  params.overrides = task.overrides;
  params.max_relative_error = task.max_relative_error;
  return params;
}

QuantizedCheckpointParams CheckpointParams(const QuantizeTask& task, size_t output,
                                           std::optional<PlainDTypes> dtypes,
                                           std::vector<RaisedGroup> raised) {
  QuantizedCheckpointParams params;
  params.stored = task.formats[output];
  params.strict = task.strict;
  params.overrides = task.overrides;
  params.dtypes = std::move(dtypes);
  params.raised = std::move(raised);
  params.output = output;
  params.max_shard_bytes = task.max_shard_bytes;
  return params;
}

}  // namespace salient
