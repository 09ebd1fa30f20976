#include "core/engines/preflight.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/engines/describe_model.h"
#include "core/engines/engine_verdict.h"

namespace salient {
namespace {

// In the order in which another layout is tried: what most engines load comes first.
const std::vector<OutputFormat>& Outputs() {
  static const auto* outputs =
      new std::vector<OutputFormat>{OutputFormat::kCompressedTensors, OutputFormat::kAwqGemm,
                                    OutputFormat::kGptq, OutputFormat::kGptqV2};
  return *outputs;
}

// The values of a field to try: the present one, or all others if it is to change, nearest first.
template <typename Value>
std::vector<Value> Tried(bool change, Value present, std::vector<Value> all) {
  if (!change) return {present};
  all.erase(std::remove(all.begin(), all.end(), present), all.end());
  return all;
}

// Group sizes by how near they are; the smaller, which err less, before the larger.
std::vector<int64_t> GroupSizes(int64_t present) {
  std::vector<int64_t> sizes = {128, 64, 32, 16, kWholeRow};
  if (present <= 0) return sizes;
  std::stable_sort(sizes.begin(), sizes.end(), [present](int64_t a, int64_t b) {
    const auto distance = [present](int64_t size) {
      if (size < 0) return 64.0;
      return size <= present ? static_cast<double>(present) / static_cast<double>(size)
                             : 0.5 + static_cast<double>(size) / static_cast<double>(present);
    };
    return distance(a) < distance(b);
  });
  return sizes;
}

// A plan of one block stands for all: their shapes are the same.
absl::StatusOr<QuantizedCheckpointPlan> PlanOneBlock(const ModelConfig& config,
                                                     absl::string_view config_json,
                                                     const StoredFormat& stored) {
  ModelConfig short_config = config;
  short_config.num_hidden_layers = 1;
  QuantizedCheckpointParams params;
  params.stored = stored;
  return PlanQuantizedCheckpoint(short_config, config_json, params);
}

bool AllLoad(const QuantizedCheckpointPlan& plan, int64_t blocks, const EngineRequest& request) {
  const absl::StatusOr<DescribedModel> model = DescribePlan(plan, blocks);
  if (!model.ok()) return false;
  return std::all_of(request.engines.begin(), request.engines.end(), [&](Engine engine) {
    return JudgeEngine(engine, *model, request.tensor_parallel).loads();
  });
}

std::string Names(absl::Span<const Engine> engines) {
  return absl::StrJoin(engines, " and ", [](std::string* out, Engine engine) {
    absl::StrAppend(out, EngineName(engine));
  });
}

// "group_size 64, output_format compressed-tensors": what differs.
std::string Changes(const StoredFormat& from, const StoredFormat& to) {
  std::vector<std::string> changes;
  if (to.format.group_size != from.format.group_size) {
    changes.push_back(absl::StrCat("group_size ", to.format.group_size));
  }
  if (to.format.symmetric != from.format.symmetric) {
    changes.push_back(absl::StrCat("symmetric ", to.format.symmetric ? "true" : "false"));
  }
  if (to.format.bits != from.format.bits) changes.push_back(absl::StrCat("bits ", to.format.bits));
  if (to.output != from.output) {
    changes.push_back(absl::StrCat("output_format ", Name(to.output)));
  }
  return absl::StrJoin(changes, ", ");
}

}  // namespace

std::optional<StoredFormat> NearestFormat(const ModelConfig& config, absl::string_view config_json,
                                          const StoredFormat& stored,
                                          const EngineRequest& request) {
  const auto present = PlanOneBlock(config, config_json, stored);
  const size_t kept = present.ok() ? present->kept.size() : kLinearRoles;
  const auto works = [&](const StoredFormat& tried) {
    const auto plan = PlanOneBlock(config, config_json, tried);
    return plan.ok() && plan->kept.size() <= kept && AllLoad(*plan, /*blocks=*/1, request);
  };
  constexpr unsigned kGroup = 1, kSymmetric = 2, kBits = 4, kOutput = 8;
  const WeightFormat& format = stored.format;
  for (unsigned change = 1; change < 2 * kOutput; ++change) {
    for (const OutputFormat output : Tried(change & kOutput, stored.output, Outputs())) {
      for (const int bits : Tried<int>(change & kBits, format.bits, {4, 8})) {
        for (const bool symmetric :
             Tried<bool>(change & kSymmetric, format.symmetric, {true, false})) {
          for (const int64_t group_size :
               Tried(change & kGroup, format.group_size, GroupSizes(format.group_size))) {
            StoredFormat tried = stored;
            tried.format.bits = bits;
            tried.format.symmetric = symmetric;
            tried.format.group_size = group_size;
            tried.output = output;
            if (output != stored.output) tried.activations = ActivationFormat::kNone;
            if (works(tried)) return tried;
          }
        }
      }
    }
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<std::string>> CheckEngines(const ModelConfig& config,
                                                      absl::string_view config_json,
                                                      const StoredFormat& stored,
                                                      const QuantizedCheckpointPlan& plan,
                                                      const EngineRequest& request) {
  const absl::StatusOr<DescribedModel> model = DescribePlan(plan, /*blocks=*/0);
  if (!model.ok()) return model.status();
  std::vector<std::string> warnings;
  std::vector<std::string> faults;
  for (const EngineVerdict& verdict : JudgeEngines(*model, request.tensor_parallel)) {
    const absl::string_view name = EngineName(verdict.engine);
    const bool asked = std::find(request.engines.begin(), request.engines.end(), verdict.engine) !=
                       request.engines.end();
    if (!verdict.loads()) {
      const std::string why = absl::StrCat("the result will not load in ", name, ": ",
                                           absl::StrJoin(verdict.faults, "; "));
      (asked ? faults : warnings).push_back(why);
    }
    if (!asked) continue;
    for (const std::string& remark : verdict.remarks) {
      warnings.push_back(absl::StrCat(name, ": ", remark));
    }
  }
  if (faults.empty()) return warnings;
  const auto nearest = NearestFormat(config, config_json, stored, request);
  const std::string instead =
      nearest.has_value()
          ? absl::StrCat(
                "the nearest that ", Names(request.engines),
                request.engines.size() == 1 ? " loads: " : " load: ", Changes(stored, *nearest))
          : absl::StrCat("no other group_size, symmetry, width or output format loads in ",
                         Names(request.engines), " either");
  return absl::InvalidArgumentError(absl::StrCat(absl::StrJoin(faults, "; "), "; ", instead));
}

}  // namespace salient
