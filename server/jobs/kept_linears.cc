#include "server/jobs/kept_linears.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/model/block_plan.h"
#include "core/pack/stored_format.h"
#include "core/result/quantizable_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// Engines have kernels for these group sizes; the largest stands first.
constexpr int64_t kUsualGroupSizes[] = {128, 64, 32, 16};

struct Cause {
  std::string why;  // It holds for any of the Linears.
  std::vector<std::string> linears;
  std::vector<int64_t> layers;
};

// Returns the reason of the first Linear at fault, without its name.
std::string WhyOf(const BlockPlan& block, const GroupPlan& group, const GroupFit& fit) {
  for (const size_t linear : group.linears) {
    const int64_t in_features = block.linears[linear].shape.in_features;
    if (fit.format.group_size > 0 && in_features % fit.format.group_size != 0) {
      return absl::StrCat("group_size ", fit.format.group_size, " does not divide in_features ",
                          in_features);
    }
  }
  const size_t name = fit.why.find(": ");
  return name == std::string::npos ? fit.why : fit.why.substr(name + 2);
}

template <typename Value>
void AddOnce(const Value& value, std::vector<Value>& values) {
  if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
}

void AddTo(std::vector<Cause>& causes, const std::string& why, int64_t layer,
           const std::vector<std::string>& linears) {
  auto cause = std::find_if(causes.begin(), causes.end(),
                            [&](const Cause& known) { return known.why == why; });
  if (cause == causes.end()) cause = causes.insert(causes.end(), Cause{why, {}, {}});
  AddOnce(layer, cause->layers);
  for (const std::string& linear : linears) AddOnce(linear, cause->linears);
}

std::vector<Cause> CausesOf(const Model& model, const std::vector<BlockFits>& fits) {
  std::vector<Cause> causes;
  for (const BlockPlan& block : model.blocks) {
    for (size_t i = 0; i < block.groups.size(); ++i) {
      const GroupPlan& group = block.groups[i];
      const GroupFit& fit = fits[static_cast<size_t>(block.layer)][i];
      if (fit.fits || fit.asked) continue;
      std::vector<std::string> linears;
      for (const size_t linear : group.linears) {
        const std::string& path = block.linears[linear].path;
        linears.push_back(path.substr(path.rfind('.') + 1));
      }
      AddTo(causes, WhyOf(block, group, fit), block.layer, linears);
    }
  }
  return causes;
}

absl::StatusOr<std::vector<BlockFits>> FitsOf(const Model& model,
                                              const QuantizedCheckpointParams& params,
                                              const StoredFormat& stored) {
  return QuantizableGroups(model, stored, /*strict=*/false, params.overrides);
}

std::optional<int64_t> GroupSizeThatFits(const Model& model,
                                         const QuantizedCheckpointParams& params) {
  StoredFormat stored = params.stored;
  for (const int64_t size : kUsualGroupSizes) {
    if (size == params.stored.format.group_size) continue;
    stored.format.group_size = size;
    if (FindFormatFault(stored).has_value()) continue;
    const auto fits = FitsOf(model, params, stored);
    if (fits.ok() && CausesOf(model, *fits).empty()) return size;
  }
  return std::nullopt;
}

std::string BlocksText(const std::vector<int64_t>& layers, size_t blocks) {
  if (layers.size() == blocks) return absl::StrCat("all ", blocks, " blocks");
  if (layers.size() == 1) return absl::StrCat("block ", layers[0]);
  return absl::StrCat(layers.size(), " of ", blocks, " blocks");
}

}  // namespace

std::vector<std::string> KeptWarnings(const Model& model, const QuantizedCheckpointParams& params) {
  const auto fits = FitsOf(model, params, params.stored);
  if (!fits.ok()) return {};  // whoever makes a plan of the same is told
  const std::vector<Cause> causes = CausesOf(model, *fits);
  if (causes.empty()) return {};
  const std::optional<int64_t> size = GroupSizeThatFits(model, params);
  std::vector<std::string> warnings;
  for (const Cause& cause : causes) {
    warnings.push_back(absl::StrCat(
        absl::StrJoin(cause.linears, ", "), " of ", BlocksText(cause.layers, fits->size()),
        cause.linears.size() * cause.layers.size() > 1 ? " are not quantized: "
                                                       : " is not quantized: ",
        cause.why,
        size.has_value() ? absl::StrCat("; with group_size ", *size, " all would be quantized")
                         : ""));
  }
  return warnings;
}

}  // namespace salient
