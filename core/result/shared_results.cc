#include "core/result/shared_results.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/result/module_override.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

bool Same(const WeightFormat& a, const WeightFormat& b) {
  return a.bits == b.bits && a.group_size == b.group_size && a.symmetric == b.symmetric &&
         a.scale_dtype == b.scale_dtype;
}

bool SameKind(const StoredFormat& a, const StoredFormat& b) {
  return Same(a.format, b.format) && a.activations == b.activations &&
         (a.output == OutputFormat::kScaledFp16) == (b.output == OutputFormat::kScaledFp16);
}

bool SameFits(const std::vector<BlockFits>& a, const std::vector<BlockFits>& b, bool limits_error) {
  const auto same = [&](const GroupFit& x, const GroupFit& y) {
    if (x.fits != y.fits || x.asked != y.asked || !Same(x.format, y.format)) return false;
    return !limits_error || x.wider.has_value() == y.wider.has_value();
  };
  for (size_t layer = 0; layer < a.size(); ++layer) {
    if (!std::equal(a[layer].begin(), a[layer].end(), b[layer].begin(), same)) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::vector<SharedResult>> ShareResults(const Model& model,
                                                       absl::Span<const StoredFormat> outputs,
                                                       bool strict,
                                                       absl::Span<const ModuleOverride> overrides,
                                                       bool limits_error) {
  if (outputs.empty()) {
    return absl::InvalidArgumentError("there are 0 outputs; expected at least 1");
  }
  std::vector<SharedResult> results;
  for (size_t i = 0; i < outputs.size(); ++i) {
    auto fits = QuantizableGroups(model, outputs[i], strict, overrides);
    if (!fits.ok()) {
      if (outputs.size() == 1) return fits.status();
      return absl::Status(fits.status().code(),
                          absl::StrCat(Name(outputs[i].output), ": ", fits.status().message()));
    }
    const auto shared = std::find_if(results.begin(), results.end(), [&](const SharedResult& r) {
      return SameKind(outputs[r.outputs[0]], outputs[i]) && SameFits(r.fits, *fits, limits_error);
    });
    if (shared != results.end()) {
      shared->outputs.push_back(i);
    } else {
      results.push_back({{i}, *std::move(fits)});
    }
  }
  return results;
}

}  // namespace salient
