#include "core/engines/possible_results.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/model/family.h"
#include "core/result/quantizable_groups.h"

namespace salient {
namespace {

// Two, so that one of them can be raised and differ from the other.
constexpr int kBlocksOfAKind = 2;

// The groups of the last block that has any which can get this; of the model's only block one stays
// as it is. Empty if there are none, or if nothing would be left that is quantized.
std::vector<RaisedGroup> RaiseLast(const Family& family, const std::vector<BlockFits>& fits,
                                   bool to_f16) {
  size_t quantized = 0;
  std::vector<RaisedGroup> raised;
  for (size_t layer = fits.size(); layer-- > 0;) {
    const bool none_yet = raised.empty();
    for (const GroupRow& row : family.groups) {
      const GroupFit& fit = fits[layer][static_cast<size_t>(row.role)];
      if (!fit.fits) continue;
      ++quantized;
      if (!none_yet || (!to_f16 && !fit.wider.has_value())) continue;
      RaisedGroup group;
      group.layer = static_cast<int64_t>(layer);
      group.role = row.role;
      group.bits = to_f16 ? kRaisedToF16 : fit.wider->bits;
      raised.push_back(std::move(group));
    }
  }
  if (raised.size() == quantized && raised.size() > 1) raised.erase(raised.begin());
  if (raised.size() == quantized && to_f16) raised.clear();
  return raised;
}

}  // namespace

ModelSample SampleBlocks(const ModelConfig& config, const QuantizedCheckpointParams& params) {
  ModelSample sample{config, params};
  const auto family = FindFamily(config);
  if (!family.ok()) return sample;
  sample.config.num_hidden_layers = 0;
  sample.params.overrides.clear();
  std::map<std::vector<std::string>, int> blocks_of_kind;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const std::string prefix = BlockPrefix(**family, layer);
    std::vector<std::string> kind;
    std::vector<ModuleOverride> overrides;
    for (const ModuleOverride& override : params.overrides) {
      absl::string_view inside = override.module;
      if (!absl::ConsumePrefix(&inside, prefix)) continue;
      kind.push_back(absl::StrCat(inside, " ", override.bits, " ", override.group_size, " ",
                                  override.skip ? 1 : 0));
      overrides.push_back(override);
      overrides.back().module =
          absl::StrCat(BlockPrefix(**family, sample.config.num_hidden_layers), inside);
    }
    std::sort(kind.begin(), kind.end());
    if (++blocks_of_kind[kind] > kBlocksOfAKind) continue;
    ++sample.config.num_hidden_layers;
    for (ModuleOverride& override : overrides) {
      sample.params.overrides.push_back(std::move(override));
    }
  }
  return sample;
}

std::vector<RaisedPlan> PlansRaised(const ModelConfig& config, absl::string_view config_json,
                                    const QuantizedCheckpointParams& params) {
  std::vector<RaisedPlan> plans;
  if (params.stored.output == OutputFormat::kScaledFp16) return plans;
  const auto family = FindFamily(config);
  if (!family.ok()) return plans;
  const auto fits =
      QuantizableGroups(**family, config, params.stored, params.strict, params.overrides);
  if (!fits.ok()) return plans;
  for (const bool to_f16 : {false, true}) {
    QuantizedCheckpointParams raised = params;
    raised.output = 0;
    raised.raised = RaiseLast(**family, *fits, to_f16);
    if (raised.raised.empty()) continue;
    const std::string to =
        to_f16 ? std::string("F16") : absl::StrCat(raised.raised[0].bits, " bits");
    auto plan = PlanQuantizedCheckpoint(config, config_json, raised);
    if (plan.ok()) plans.push_back({to, *std::move(plan)});
  }
  return plans;
}

}  // namespace salient
