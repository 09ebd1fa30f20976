#include "core/result/quantizable_groups.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/model/block_plan.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

constexpr int kWiderBits = 8;

// Returns the first fault among the Linears of a group, which it names by their full paths, or by
// those in the block where all blocks are alike.
absl::Status Validate(const BlockPlan& block, const GroupPlan& group, const StoredFormat& stored,
                      bool full_paths) {
  for (const size_t index : group.linears) {
    const LinearPlan& linear = block.linears[index];
    absl::Status status =
        ValidateLinear(full_paths ? linear.name : linear.path, linear.shape.out_features,
                       linear.shape.in_features, stored);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::optional<WeightFormat> Wider(const BlockPlan& block, const GroupPlan& group,
                                  const StoredFormat& stored) {
  if (!HoldsMixedFormats(stored.output) || stored.format.bits >= kWiderBits) return std::nullopt;
  WeightFormat wider = stored.format;
  wider.bits = kWiderBits;
  if (!Validate(block, group, StoredAs(stored, wider), false).ok()) return std::nullopt;
  return wider;
}

}  // namespace

absl::StatusOr<std::vector<BlockFits>> QuantizableGroups(
    const Model& model, const StoredFormat& stored, bool strict,
    absl::Span<const ModuleOverride> overrides) {
  const auto formats = ApplyOverrides(model, stored, overrides);
  if (!formats.ok()) return formats.status();
  const std::string& source = model.config.source;
  std::vector<BlockFits> fits;
  absl::Status fault;
  bool any_fits = false;
  for (size_t layer = 0; layer < formats->size(); ++layer) {
    const BlockPlan& block = model.blocks[layer];
    BlockFits& of_block = fits.emplace_back();
    for (size_t i = 0; i < block.groups.size(); ++i) {
      const GroupFormat& format = (*formats)[layer][i];
      GroupFit& fit = of_block.emplace_back();
      fit.format = format.format;
      if (format.skip) {
        fit.fits = false;
        fit.asked = true;
        fit.why = "an override skips it";
        continue;
      }
      const StoredFormat group = StoredAs(stored, format.format);
      const absl::Status status = Validate(block, block.groups[i], group, format.overridden);
      if (status.ok()) {
        any_fits = true;
        fit.wider = Wider(block, block.groups[i], group);
        continue;
      }
      fit.fits = false;
      fit.why = std::string(status.message());
      fault.Update(status);
      if (!strict && !format.overridden) continue;
      return absl::Status(status.code(), absl::StrCat(source, ": ", status.message()));
    }
  }
  if (any_fits) return fits;
  if (fault.ok()) fault = absl::InvalidArgumentError("overrides skip every Linear");
  return absl::Status(fault.code(),
                      absl::StrCat(source, ": nothing to quantize; ", fault.message()));
}

}  // namespace salient
