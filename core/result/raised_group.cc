#include "core/result/raised_group.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/model/block_plan.h"

namespace salient {
namespace {

GroupFit* FindFit(const Model& model, const RaisedGroup& raised, std::vector<BlockFits>& fits) {
  const auto layer = static_cast<size_t>(raised.layer);
  if (layer >= fits.size()) return nullptr;
  const std::vector<GroupPlan>& groups = model.blocks[layer].groups;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].path == raised.group) return &fits[layer][i];
  }
  return nullptr;
}

}  // namespace

absl::Status CheckErrorLimit(double max_relative_error) {
  if (std::isfinite(max_relative_error) && max_relative_error >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("max_relative_error is ", max_relative_error,
                                                 "; expected a number above 0, or 0 for no limit"));
}

absl::Status ApplyRaised(const Model& model, absl::Span<const RaisedGroup> raised, size_t output,
                         std::vector<BlockFits>& fits) {
  for (const RaisedGroup& group : raised) {
    if (group.output != output) continue;
    GroupFit* const found = FindFit(model, group, fits);
    if (found == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("group ", group.group, " of block ",
                                                     group.layer, " was raised; ",
                                                     model.config.source, " has none"));
    }
    GroupFit& fit = *found;
    if (group.bits == kRaisedToF16) {
      fit.fits = false;
      fit.why = group.why;
    } else {
      fit.format.bits = group.bits;
    }
  }
  for (const BlockFits& block : fits) {
    for (const GroupFit& fit : block) {
      if (fit.fits) return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      "max_relative_error leaves nothing quantized: every group's error is above it; expected a "
      "larger one");
}

}  // namespace salient
