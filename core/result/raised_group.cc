#include "core/result/raised_group.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace salient {
absl::Status CheckErrorLimit(double max_relative_error) {
  if (std::isfinite(max_relative_error) && max_relative_error >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("max_relative_error is ", max_relative_error,
                                                 "; expected a number above 0, or 0 for no limit"));
}

absl::Status ApplyRaised(absl::Span<const RaisedGroup> raised, size_t output,
                         std::vector<BlockFits>& fits) {
  for (const RaisedGroup& group : raised) {
    if (group.output != output) continue;
    GroupFit& fit = fits[static_cast<size_t>(group.layer)][static_cast<size_t>(group.role)];
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
