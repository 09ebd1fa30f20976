#include "core/model/prepared_block.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace salient {

absl::StatusOr<PreparedBlock> PreparedBlock::Create(const BlockPlan& plan,
                                                    const BlockWeights& block, ComputeDType compute,
                                                    Executor& executor) {
  PreparedBlock prepared;
  prepared.plan_ = &plan;
  prepared.block_ = &block;
  prepared.linears_.reserve(plan.linears.size());
  std::vector<std::pair<PreparedLinear*, int64_t>> slices;
  for (size_t i = 0; i < plan.linears.size(); ++i) {
    const StoredLinear& stored = block.linears[i];
    if (compute != ComputeDType::kF32 && stored.input.format != ActivationFormat::kNone) {
      return absl::InvalidArgumentError(
          absl::StrCat(stored.name,
                       ": its input is rounded to 8 bits, and products are "
                       "in bfloat16; expected f32"));
    }
    PreparedLinear& linear = prepared.linears_.emplace_back(stored, compute, plan.linears[i].unit);
    for (int64_t slice = 0; slice < linear.Slices().size(); ++slice) {
      slices.emplace_back(&linear, slice);
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

int64_t PreparedBlock::MemoryBytes(const BlockPlan& plan, ComputeDType compute) {
  int64_t bytes = 0;
  for (const LinearPlan& linear : plan.linears) {
    bytes +=
        PreparedLinear::PreparedBytes(compute, linear.shape.out_features, linear.shape.in_features);
  }
  return bytes;
}

}  // namespace salient
