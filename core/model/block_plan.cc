#include "core/model/block_plan.h"

#include "absl/algorithm/container.h"

namespace salient {

const GroupPlan& BlockPlan::GroupOf(size_t linear) const {
  const auto reads = [&](const GroupPlan& group) {
    return absl::c_linear_search(group.linears, linear);
  };
  return *absl::c_find_if(groups, reads);
}

const FusedLinears* BlockPlan::FusedOf(size_t linear) const {
  for (const FusedLinears& set : fused) {
    if (absl::c_linear_search(set.linears, linear)) return &set;
  }
  return nullptr;
}

int64_t BlockPlan::Weights() const {
  int64_t weights = 0;
  for (const LinearPlan& linear : linears) {
    weights += linear.shape.out_features * linear.shape.in_features;
  }
  return weights;
}

}  // namespace salient
