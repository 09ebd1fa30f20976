#include "core/quantizable_groups.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace salient {
namespace {

// The first fault among the Linears of a group. Named without a block: all have the same shapes.
absl::Status Validate(const Family& family, const ModelConfig& config, const GroupRow& row,
                      const StoredFormat& stored) {
  for (const LinearRole role : row.linears) {
    const LinearShape shape = ShapeOf(family, config, role);
    absl::Status status = ValidateLinear(std::string(family.linears[static_cast<size_t>(role)]),
                                         shape.out_features, shape.in_features, stored);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::array<GroupFit, kGroupRoles>> QuantizableGroups(const Family& family,
                                                                    const ModelConfig& config,
                                                                    const StoredFormat& stored,
                                                                    bool strict) {
  std::array<GroupFit, kGroupRoles> fits;
  absl::Status fault;
  for (const GroupRow& row : family.groups) {
    const absl::Status status = Validate(family, config, row, stored);
    if (status.ok()) continue;
    fits[static_cast<size_t>(row.role)] = {false, std::string(status.message())};
    fault.Update(status);
    if (!strict) continue;
    return absl::Status(status.code(), absl::StrCat(config.source, ": ", status.message()));
  }
  if (std::any_of(fits.begin(), fits.end(), [](const GroupFit& fit) { return fit.fits; })) {
    return fits;
  }
  return absl::Status(fault.code(),
                      absl::StrCat(config.source, ": nothing to quantize; ", fault.message()));
}

}  // namespace salient
