#include "core/cost/study_cost.h"

#include <algorithm>

#include "core/cost/block_cost.h"
#include "core/cost/work_count.h"
#include "core/group/round_linears.h"
#include "core/model/block_plan.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/statistics/statistics.h"
#include "core/study/study_block.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

double Operations(const ModelCost& cost) {
  const Work work = cost.Total();
  return work.bf16_flop + work.f32_flop + work.vector_flop;
}

// Plain round-to-nearest of the model: what it reads and holds, a study reads and holds before its
// evaluation, up to the results that it has none of.
QuantizeModelParams PlainRounding(const StudyModelParams& params) {
  QuantizeModelParams plain;
  plain.method = kPlainRounding;
  plain.outputs = {{params.block.format, OutputFormat::kDequantizedFp16}};
  plain.compute = params.compute;
  return plain;
}

}  // namespace

absl::StatusOr<StudyCost> CostOfStudying(const Model& model,
                                         absl::Span<const int64_t> calibration_row_tokens,
                                         absl::Span<const int64_t> evaluation_row_tokens,
                                         const StudyModelParams& params, int concurrency) {
  if (absl::Status status = CheckStudy(model, params.block); !status.ok()) return status;
  const absl::StatusOr<ModelCost> rounding =
      CostOfQuantizing(model, calibration_row_tokens, PlainRounding(params), concurrency);
  if (!rounding.ok()) return rounding.status();
  const absl::StatusOr<ModelCost> evaluating = CostOfEvaluating(
      model, evaluation_row_tokens, /*plain=*/1, static_cast<int>(kStudiedChoices), concurrency);
  if (!evaluating.ok()) return evaluating.status();
  WorkCount work(model, model.blocks.front());
  for (const BlockKind& kind : KindsOf(model)) {
    const BlockPlan& block = *kind.block;
    WorkCount of_kind(model, block);
    of_kind.ReadBlock(/*decoded=*/false);
    for (const int64_t tokens : calibration_row_tokens) of_kind.Forward(tokens, params.compute);
    for (const GroupPlan& group : block.groups) {
      StatisticsParams statistics;
      double weights = 0;
      for (const size_t linear : group.linears) {
        const LinearShape& shape = block.linears[linear].shape;
        statistics.in_features = shape.in_features;
        weights += static_cast<double>(shape.out_features) * static_cast<double>(shape.in_features);
      }
      for (const int64_t tokens : calibration_row_tokens) {
        of_kind.Fold(tokens, statistics, params.compute);
      }
      of_kind.Study(static_cast<double>(group.linears.size()), weights, statistics,
                    kStudiedChoices);
    }
    of_kind.Repeat(static_cast<double>(kind.count));
    work.Add(of_kind);
  }
  StudyCost cost;
  cost.total = *evaluating;
  for (size_t i = 0; i < kStages; ++i) cost.total.stages[i] += work.stages()[i];
  cost.total.read_bytes += rounding->read_bytes;
  cost.total.write_bytes += rounding->write_bytes - static_cast<double>(rounding->output_bytes);
  cost.total.memory_bytes = std::max(evaluating->memory_bytes, rounding->memory_bytes);
  cost.evaluation_share = Operations(*evaluating) / std::max(1.0, Operations(cost.total));
  return cost;
}

}  // namespace salient
