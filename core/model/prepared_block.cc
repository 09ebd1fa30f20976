#include "core/model/prepared_block.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/activations.h"
#include "core/tensor/stored_format.h"

namespace salient {

absl::StatusOr<PreparedBlock> PreparedBlock::Create(const BlockPlan& plan,
                                                    const BlockWeights& block, ComputeDType compute,
                                                    Executor& executor) {
  PreparedBlock prepared;
  prepared.plan_ = &plan;
  prepared.block_ = &block;
  prepared.compute_ = compute;
  for (const StoredLinear& stored : block.linears) {
    if (compute == ComputeDType::kF32 || stored.input.format == ActivationFormat::kNone) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(stored.name,
                     ": its input is rounded to 8 bits, and products are "
                     "in bfloat16; expected f32"));
  }
  for (const NormPlan& norm : plan.norms) {
    std::vector<float>& weight = prepared.norm_weights_.emplace_back();
    weight = block.vectors[norm.weight].values;
    if (!norm.rule.plus_one) continue;
    for (float& value : weight) value += 1;
  }
  prepared.whole_.resize(plan.linears.size());
  prepared.projections_.reserve(plan.projections.size());
  std::vector<std::pair<PreparedLinear*, int64_t>> slices;
  for (size_t i = 0; i < plan.projections.size(); ++i) {
    const ProjectionPlan& rows = plan.projections[i];
    prepared.whole_[rows.linear] = i;
    PreparedLinear& projection =
        prepared.projections_.emplace_back(block.linears[rows.linear], rows.first_row, rows.rows,
                                           compute, plan.linears[rows.linear].unit);
    for (int64_t slice = 0; slice < projection.Slices().size(); ++slice) {
      slices.emplace_back(&projection, slice);
    }
  }
  if (compute == ComputeDType::kF32) return prepared;
  const absl::Status status = executor.ForEach(static_cast<int64_t>(slices.size()), [&](int64_t i) {
    const auto& [linear, slice] = slices[static_cast<size_t>(i)];
    return linear->Prepare(slice);
  });
  if (!status.ok()) return status;
  return prepared;
}

absl::Span<const float> PreparedBlock::norm_bias(size_t index) const {
  const std::optional<size_t>& bias = plan_->norms[index].bias;
  if (!bias.has_value()) return {};
  return block_->vectors[*bias].values;
}

int64_t PreparedBlock::MemoryBytes(const BlockPlan& plan, ComputeDType compute) {
  int64_t bytes = 0;
  for (const LinearPlan& linear : plan.linears) {
    bytes +=
        PreparedLinear::PreparedBytes(compute, linear.shape.out_features, linear.shape.in_features);
  }
  return bytes;
}

}  // namespace salient
