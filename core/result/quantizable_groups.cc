#include "core/result/quantizable_groups.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace salient {
namespace {

constexpr int kWiderBits = 8;

// Returns the first fault among the Linears of a group. `prefix` is the block's, or nothing where
// all blocks are alike.
absl::Status Validate(const Family& family, const ModelConfig& config, const GroupRow& row,
                      const StoredFormat& stored, const std::string& prefix) {
  for (const LinearRole role : row.linears) {
    const LinearShape shape = ShapeOf(family, config, role);
    absl::Status status =
        ValidateLinear(absl::StrCat(prefix, family.linears[static_cast<size_t>(role)]),
                       shape.out_features, shape.in_features, stored);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::optional<WeightFormat> Wider(const Family& family, const ModelConfig& config,
                                  const GroupRow& row, const StoredFormat& stored) {
  if (!HoldsMixedFormats(stored.output) || stored.format.bits >= kWiderBits) return std::nullopt;
  WeightFormat wider = stored.format;
  wider.bits = kWiderBits;
  if (!Validate(family, config, row, StoredAs(stored, wider), "").ok()) return std::nullopt;
  return wider;
}

}  // namespace

absl::StatusOr<std::vector<BlockFits>> QuantizableGroups(
    const Family& family, const ModelConfig& config, const StoredFormat& stored, bool strict,
    absl::Span<const ModuleOverride> overrides) {
  const auto formats = ApplyOverrides(family, config, stored, overrides);
  if (!formats.ok()) return formats.status();
  std::vector<BlockFits> fits(formats->size());
  absl::Status fault;
  bool any_fits = false;
  for (size_t layer = 0; layer < formats->size(); ++layer) {
    for (const GroupRow& row : family.groups) {
      const GroupFormat& format = (*formats)[layer][static_cast<size_t>(row.role)];
      GroupFit& fit = fits[layer][static_cast<size_t>(row.role)];
      fit.format = format.format;
      if (format.skip) {
        fit.fits = false;
        fit.asked = true;
        fit.why = "an override skips it";
        continue;
      }
      const StoredFormat group = StoredAs(stored, format.format);
      const std::string prefix =
          format.overridden ? BlockPrefix(family, static_cast<int64_t>(layer)) : "";
      const absl::Status status = Validate(family, config, row, group, prefix);
      if (status.ok()) {
        any_fits = true;
        fit.wider = Wider(family, config, row, group);
        continue;
      }
      fit.fits = false;
      fit.why = std::string(status.message());
      fault.Update(status);
      if (!strict && !format.overridden) continue;
      return absl::Status(status.code(), absl::StrCat(config.source, ": ", status.message()));
    }
  }
  if (any_fits) return fits;
  if (fault.ok()) fault = absl::InvalidArgumentError("overrides skip every Linear");
  return absl::Status(fault.code(),
                      absl::StrCat(config.source, ": nothing to quantize; ", fault.message()));
}

}  // namespace salient
