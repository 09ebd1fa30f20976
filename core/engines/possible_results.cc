#include "core/engines/possible_results.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/model/block_plan.h"
#include "core/model/model.h"
#include "core/result/module_override.h"
#include "core/result/quantizable_groups.h"
#include "core/result/raised_group.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// Two, so that one of them can be raised and differ from the other.
constexpr int kBlocksOfAKind = 2;

// The groups of the last block that has any which can get this; of the model's only block one stays
// as it is. Empty if there are none, or if nothing would be left that is quantized.
std::vector<RaisedGroup> RaiseLast(const Model& model, const std::vector<BlockFits>& fits,
                                   bool to_f16) {
  size_t quantized = 0;
  std::vector<RaisedGroup> raised;
  for (size_t layer = fits.size(); layer-- > 0;) {
    const bool none_yet = raised.empty();
    for (size_t i = 0; i < fits[layer].size(); ++i) {
      const GroupFit& fit = fits[layer][i];
      if (!fit.fits) continue;
      ++quantized;
      if (!none_yet || (!to_f16 && !fit.wider.has_value())) continue;
      RaisedGroup group;
      group.layer = static_cast<int64_t>(layer);
      group.group = model.blocks[layer].groups[i].path;
      group.bits = to_f16 ? kRaisedToF16 : fit.wider->bits;
      raised.push_back(std::move(group));
    }
  }
  if (raised.size() == quantized && raised.size() > 1) raised.erase(raised.begin());
  if (raised.size() == quantized && to_f16) raised.clear();
  return raised;
}

}  // namespace

ModelSample SampleBlocks(const Model& model, const QuantizedCheckpointParams& params) {
  ModelSample sample{model, params};
  sample.params.overrides.clear();
  size_t kept = 0;  // blocks of the sample
  std::map<std::vector<std::string>, int> blocks_of_kind;
  for (const BlockPlan& block : model.blocks) {
    const std::string& prefix = block.prefix;
    std::vector<std::string> kind;
    std::vector<ModuleOverride> overrides;
    for (const ModuleOverride& override : params.overrides) {
      absl::string_view inside = override.module;
      if (!absl::ConsumePrefix(&inside, prefix)) continue;
      kind.push_back(absl::StrCat(inside, " ", override.bits, " ", override.group_size, " ",
                                  override.skip ? 1 : 0));
      overrides.push_back(override);
      overrides.back().module = absl::StrCat(model.blocks[kept].prefix, inside);
    }
    std::sort(kind.begin(), kind.end());
    if (++blocks_of_kind[kind] > kBlocksOfAKind) continue;
    ++kept;
    for (ModuleOverride& override : overrides) {
      sample.params.overrides.push_back(std::move(override));
    }
  }
  sample.model.config.num_hidden_layers = static_cast<int64_t>(kept);
  sample.model.blocks.resize(kept);
  return sample;
}

std::vector<RaisedPlan> PlansRaised(const Model& model, absl::string_view config_json,
                                    const QuantizedCheckpointParams& params) {
  std::vector<RaisedPlan> plans;
  if (params.stored.output == OutputFormat::kScaledFp16) return plans;
  const auto fits = QuantizableGroups(model, params.stored, params.strict, params.overrides);
  if (!fits.ok()) return plans;
  for (const bool to_f16 : {false, true}) {
    QuantizedCheckpointParams raised = params;
    raised.output = 0;
    raised.raised = RaiseLast(model, *fits, to_f16);
    if (raised.raised.empty()) continue;
    const std::string to =
        to_f16 ? std::string("F16") : absl::StrCat(raised.raised[0].bits, " bits");
    auto plan = PlanQuantizedCheckpoint(model, config_json, raised);
    if (plan.ok()) plans.push_back({to, *std::move(plan)});
  }
  return plans;
}

}  // namespace salient
