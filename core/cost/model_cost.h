// Says what a run will cost, computed from shapes alone.
#ifndef SALIENT_CORE_COST_MODEL_COST_H_
#define SALIENT_CORE_COST_MODEL_COST_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/cost/work_count.h"
#include "core/model/model.h"
#include "core/quantize/quantize_model.h"

namespace salient {

// Seconds follow from it and a few measured rates.
struct ModelCost {
  // They stand by Stage; the bytes of hidden states are in the two below alone.
  StageWork stages;
  double read_bytes = 0;   // They come from the model and hidden states.
  double write_bytes = 0;  // They are results and hidden states.
  // So much is resident at most because of the run, beside what is resident already: what it holds
  // at once, and the share of freed memory that an allocator keeps.
  int64_t memory_bytes = 0;
  // Counts the bytes of the result's tensors, if a limit of error raises none; headers and
  // config.json not among them.
  int64_t output_bytes = 0;
  // Every worker but the first computes for this share of its time, 0 to 1. The loops of a narrow
  // model have few tiles, and some have one.
  double parallel_share = 1;

  // Sums all stages.
  Work Total() const;
};

// Of QuantizeModel and CopyOuterTensors. `row_tokens`: tokens of each calibration row. Work and
// memory are those of the worst case under a limit of error, in which all groups are above it.
absl::StatusOr<ModelCost> CostOfQuantizing(const Model& model, absl::Span<const int64_t> row_tokens,
                                           const QuantizeModelParams& params, int concurrency);

// Returns the cost of EvaluateModels with `models` >= 1 models of this shape: the one of `config`,
// whose weights are decoded if it says that they are quantized, then a plain one, then decoded ones
// (round-to-nearest). Its errors are those of and so are those of the next.
absl::StatusOr<ModelCost> CostOfEvaluating(const Model& model, absl::Span<const int64_t> row_tokens,
                                           int models, int concurrency);

// Returns the same of `plain` models whose weights are as the config says and `decoded` ones,
// `plain` at least 1.
absl::StatusOr<ModelCost> CostOfEvaluating(const Model& model, absl::Span<const int64_t> row_tokens,
                                           int plain, int decoded, int concurrency);

// Says what this machine does in a second with one thread.
struct MachineSpeed {
  double bf16_flop = 0;
  double f32_flop = 0;
  double vector_flop = 0;
  double copied_bytes = 0;
};

// Returns the wall seconds of `cost` on `workers` threads of `speed`, at least 0.
double SecondsOf(const ModelCost& cost, const MachineSpeed& speed, int workers);

}  // namespace salient

#endif  // SALIENT_CORE_COST_MODEL_COST_H_
