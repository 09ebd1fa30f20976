#include "core/model/prepared_block.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace salient {

absl::StatusOr<PreparedBlock> PreparedBlock::Create(const BlockWeights& block, ComputeDType compute,
                                                    int64_t head_dim, Executor& executor) {
  PreparedBlock prepared;
  prepared.block_ = &block;
  std::vector<std::pair<PreparedLinear*, int64_t>> slices;
  for (size_t i = 0; i < kLinearRoles; ++i) {
    const LinearRole role = static_cast<LinearRole>(i);
    const bool heads =
        role == LinearRole::kQuery || role == LinearRole::kKey || role == LinearRole::kValue;
    if (compute != ComputeDType::kF32 &&
        block.linear(role).input.format != ActivationFormat::kNone) {
      return absl::InvalidArgumentError(
          absl::StrCat(block.linear(role).name,
                       ": its input is rounded to 8 bits, and products are "
                       "in bfloat16; expected f32"));
    }
    PreparedLinear& linear = prepared.linears_[i];
    linear = PreparedLinear(block.linear(role), compute, heads ? head_dim : 1);
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

int64_t PreparedBlock::MemoryBytes(const Family& family, const ModelConfig& config,
                                   ComputeDType compute) {
  int64_t bytes = 0;
  for (size_t i = 0; i < kLinearRoles; ++i) {
    const LinearShape shape = ShapeOf(family, config, static_cast<LinearRole>(i));
    bytes += PreparedLinear::PreparedBytes(compute, shape.out_features, shape.in_features);
  }
  return bytes;
}

}  // namespace salient
