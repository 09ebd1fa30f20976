#include "core/engines/preflight.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/engines/describe_model.h"
#include "core/engines/engine_verdict.h"
#include "core/engines/model_description.h"
#include "core/engines/possible_results.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// Returns layouts in the order in which they are tried: what most engines load comes first.
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

// Returns group sizes by how near they are; the smaller, which err less, before the larger.
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

bool AllLoad(const QuantizedCheckpointPlan& plan, int64_t blocks, const EngineRequest& request) {
  const absl::StatusOr<ModelDescription> described = DescribePlan(plan, blocks);
  if (!described.ok()) return false;
  return std::all_of(request.engines.begin(), request.engines.end(), [&](Engine engine) {
    return JudgeEngine(engine, *described, request.tensor_parallel).loads();
  });
}

// Returns "vllm", "vllm and tgi" or "vllm, sglang and tgi".
std::string Names(const std::vector<Engine>& engines) {
  std::string names;
  for (size_t i = 0; i < engines.size(); ++i) {
    const bool last = i + 1 == engines.size();
    absl::StrAppend(&names, i == 0 ? "" : last ? " and " : ", ", EngineName(engines[i]));
  }
  return names;
}

// Returns "the result will not load in tgi as of 3.3.6: group_size is ...".
std::string Refusal(const EngineVerdict& verdict) {
  return absl::StrCat("the result will not load in ", EngineName(verdict.engine), " as of ",
                      EngineVersion(verdict.engine), ": ", absl::StrJoin(verdict.faults, "; "));
}

// These are the engines that load a plan, and those that do not.
struct Loading {
  std::vector<Engine> yes;
  std::vector<Engine> no;
};

// This says where a limit of error leads, and which engines no longer load the result then.
struct RaisedLoading {
  std::string to;
  std::vector<Engine> no;
};

// Returns one line for whoever asked for no engine; empty if all load the result.
std::string Overview(const Loading& loading, const std::vector<RaisedLoading>& raised) {
  std::string line = loading.yes.empty()
                         ? std::string("the result loads in no engine that is known here")
                         : absl::StrCat("the result loads in ", Names(loading.yes));
  if (!loading.yes.empty() && !loading.no.empty()) {
    absl::StrAppend(&line, "; not in ", Names(loading.no));
  }
  bool any = !loading.no.empty();
  for (const RaisedLoading& possible : raised) {
    if (possible.no.empty()) continue;
    any = true;
    absl::StrAppend(&line, "; where max_relative_error leads to ", possible.to, ", not in ",
                    Names(possible.no));
  }
  return any ? absl::StrCat(line, " (inspect says why)") : "";
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

std::optional<StoredFormat> NearestFormat(const Model& model, absl::string_view config_json,
                                          const AskedResult& asked, const EngineRequest& request) {
  const StoredFormat& stored = asked.params.stored;
  const ModelSample sample = SampleBlocks(model, asked.params);
  const int64_t blocks = sample.model.config.num_hidden_layers;
  const auto present = PlanQuantizedCheckpoint(sample.model, config_json, sample.params);
  const size_t kept =
      present.ok() ? present->kept.size() : static_cast<size_t>(sample.model.LinearCount());
  const auto works = [&](const StoredFormat& tried) {
    QuantizedCheckpointParams params = sample.params;
    params.stored = tried;
    const auto plan = PlanQuantizedCheckpoint(sample.model, config_json, params);
    if (!plan.ok() || plan->kept.size() > kept || !AllLoad(*plan, blocks, request)) return false;
    if (!asked.limits_error) return true;
    const std::vector<RaisedPlan> raised = PlansRaised(sample.model, config_json, params);
    return std::all_of(raised.begin(), raised.end(), [&](const RaisedPlan& possible) {
      return AllLoad(possible.plan, blocks, request);
    });
  };
  constexpr unsigned kGroup = 1, kSymmetric = 2, kBits = 4, kOutput = 8;
  const WeightFormat& format = stored.format;
  std::vector<unsigned> changes(2 * kOutput - 1);
  std::iota(changes.begin(), changes.end(), 1);
  std::stable_sort(changes.begin(), changes.end(),
                   [](unsigned a, unsigned b) { return std::popcount(a) < std::popcount(b); });
  for (const unsigned change : changes) {
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

absl::StatusOr<std::vector<std::string>> CheckEngines(const Model& model,
                                                      absl::string_view config_json,
                                                      const AskedResult& asked,
                                                      const QuantizedCheckpointPlan& plan,
                                                      const EngineRequest& request) {
  const absl::StatusOr<ModelDescription> described = DescribePlan(plan, /*blocks=*/0);
  if (!described.ok()) return described.status();
  const auto is_asked = [&](Engine engine) {
    return std::find(request.engines.begin(), request.engines.end(), engine) !=
           request.engines.end();
  };
  std::vector<std::string> warnings;
  std::vector<std::string> faults;
  Loading loading;
  for (const EngineVerdict& verdict : JudgeEngines(*described, request.tensor_parallel)) {
    (verdict.loads() ? loading.yes : loading.no).push_back(verdict.engine);
    if (!is_asked(verdict.engine)) continue;
    if (!verdict.loads()) faults.push_back(Refusal(verdict));
    for (const std::string& remark : verdict.remarks) {
      warnings.push_back(absl::StrCat(EngineName(verdict.engine), ": ", remark));
    }
  }
  const bool loads_unraised = faults.empty();
  std::vector<RaisedLoading> possible_loading;
  if (asked.limits_error) {
    for (const RaisedPlan& raised : PlansRaised(model, config_json, asked.params)) {
      const absl::StatusOr<ModelDescription> possible = DescribePlan(raised.plan, /*blocks=*/0);
      if (!possible.ok()) return possible.status();
      RaisedLoading& not_then = possible_loading.emplace_back();
      not_then.to = raised.to;
      for (const Engine engine : loading.yes) {
        const EngineVerdict verdict = JudgeEngine(engine, *possible, request.tensor_parallel);
        if (verdict.loads()) continue;
        not_then.no.push_back(engine);
        if (!is_asked(engine)) continue;
        faults.push_back(
            absl::StrCat("where max_relative_error leads to ", raised.to, ", ", Refusal(verdict)));
      }
    }
  }
  if (request.engines.empty()) {
    std::string overview = Overview(loading, possible_loading);
    if (!overview.empty()) warnings.push_back(std::move(overview));
  }
  if (faults.empty()) return warnings;
  const StoredFormat& stored = asked.params.stored;
  const auto nearest = NearestFormat(model, config_json, asked, request);
  std::string instead =
      nearest.has_value()
          ? absl::StrCat(
                "the nearest that ", Names(request.engines),
                request.engines.size() == 1 ? " loads: " : " load: ", Changes(stored, *nearest))
          : absl::StrCat("no other group_size, symmetry, width or output format loads in ",
                         Names(request.engines), " either");
  if (loads_unraised) absl::StrAppend(&instead, "; without max_relative_error this one loads");
  return absl::InvalidArgumentError(absl::StrCat(absl::StrJoin(faults, "; "), "; ", instead));
}

}  // namespace salient
