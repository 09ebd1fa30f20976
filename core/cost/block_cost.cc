#include "core/cost/block_cost.h"

#include <algorithm>

#include "absl/algorithm/container.h"
#include "core/group/pack_linears.h"
#include "core/method/method.h"
#include "core/model/block_plan.h"
#include "core/safetensors/layout.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

int64_t OutFeatures(const BlockPlan& block, const GroupPlan& group) {
  int64_t out = 0;
  for (const size_t linear : group.linears) out += block.linears[linear].shape.out_features;
  return out;
}

// Returns the bytes of a group's Linears as they are written.
int64_t PackedBytes(const BlockPlan& block, const GroupPlan& group, const StoredFormat& stored,
                    const GroupFit& fit) {
  int64_t bytes = 0;
  for (const size_t linear : group.linears) {
    const LinearShape& shape = block.linears[linear].shape;
    if (!fit.fits) {
      bytes += 2 * shape.out_features * shape.in_features;
      continue;
    }
    for (const TensorShape& tensor :
         PackedTensors("", shape.out_features, shape.in_features, StoredAs(stored, fit.format))) {
      bytes += tensor.SizeBytes();
    }
  }
  return bytes;
}

int64_t StatisticsBytes(const StatisticsParams& params) {
  const int64_t in = params.in_features;
  const int64_t sums =
      params.ExactGram()
          ? in * in
          : params.Blocks() * params.block_width * params.block_width + params.sketch_rows * in;
  return sums * 8 + in * 20 + params.sample_tokens * in * 4;
}

bool AreAlike(const BlockPlan& a, const BlockPlan& b) {
  const auto same_shape = [](const LinearPlan& x, const LinearPlan& y) {
    return x.shape.out_features == y.shape.out_features &&
           x.shape.in_features == y.shape.in_features && x.shape.has_bias == y.shape.has_bias;
  };
  const auto same_mixer = [](const Sublayer& x, const Sublayer& y) {
    return x.mixer.index() == y.mixer.index();
  };
  const auto same_fold = [](const GroupPlan& x, const GroupPlan& y) {
    return x.linears == y.linears && x.fold.into == y.fold.into;
  };
  return absl::c_equal(a.linears, b.linears, same_shape) &&
         absl::c_equal(a.sublayers, b.sublayers, same_mixer) &&
         absl::c_equal(a.groups, b.groups, same_fold);
}

}  // namespace

std::vector<BlockKind> KindsOf(const Model& model) {
  std::vector<BlockKind> kinds;
  for (const BlockPlan& block : model.blocks) {
    const auto found =
        absl::c_find_if(kinds, [&](const BlockKind& kind) { return AreAlike(*kind.block, block); });
    if (found == kinds.end()) {
      kinds.push_back({&block, 1});
    } else {
      ++found->count;
    }
  }
  return kinds;
}

int64_t StoredBytes(const ModelConfig& config) {
  return config.dtype.has_value() ? SizeOf(*config.dtype) : 2;
}

StatisticsParams StatisticsOf(const BlockPlan& block, const GroupPlan& group,
                              const Method& method) {
  StatisticsParams params;
  params.in_features = block.InputsOf(group);
  if (NeedsWholeGram(method)) params.KeepWholeGram();
  return params;
}

BlockCost CostOfBlock(const BlockPlan& block, int64_t stored_bytes,
                      const QuantizeModelParams& params, const SharedResult& result,
                      const BlockFits& fits, bool last, int concurrency, WorkCount& work) {
  BlockCost cost;
  for (const TensorSpec& spec : BlockTensors(block)) {
    if (spec.shape.size() != 2) cost.output_bytes += 2 * ElementsOf(spec);
  }
  cost.output_bytes *= static_cast<int64_t>(result.outputs.size());
  cost.most_output_bytes = cost.output_bytes;
  int64_t held = 0;
  for (const GroupPlan& group : block.groups) {
    held += StatisticsBytes(StatisticsOf(block, group, params.method));
  }
  // Quantizing holds statistics, what the groups before left and one group's own.
  for (const bool into_linear : {true, false}) {
    for (size_t index = 0; index < block.groups.size(); ++index) {
      const GroupPlan& group = block.groups[index];
      if (group.fold.IntoLinear() != into_linear) continue;
      const StatisticsParams statistics = StatisticsOf(block, group, params.method);
      const int64_t weights = OutFeatures(block, group) * statistics.in_features;
      const GroupFit& fit = fits[index];
      int64_t packed = 0;
      for (const size_t output : result.outputs) {
        packed += PackedBytes(block, group, params.outputs[output], fit);
      }
      cost.output_bytes += packed;
      const StoredFormat& stored = params.outputs[result.outputs[0]];
      const bool limited =
          params.max_relative_error != 0 && fit.fits && stored.output != OutputFormat::kScaledFp16;
      // A raised group stays F16 in the worst case.
      if (limited) {
        packed = std::max(packed, 2 * weights * static_cast<int64_t>(result.outputs.size()));
      }
      if (fit.fits) {
        const auto linears = static_cast<double>(group.linears.size());
        work.Group(linears, static_cast<double>(weights), statistics, params.method,
                   StoredAs(stored, fit.format));
        int64_t first_rounding = 0;
        if (limited && fit.wider.has_value()) {
          work.Group(linears, static_cast<double>(weights), statistics, params.method,
                     StoredAs(stored, *fit.wider));
          // Codes and maps, held while the second is made.
          first_rounding = weights + weights / 4;
        }
        // The group's own count is of results of 5 bits a weight.
        const int64_t wider = std::max<int64_t>(0, packed - 5 * weights / 8);
        cost.most_bytes =
            std::max(cost.most_bytes,
                     held + wider + first_rounding +
                         QuantizeGroupMemoryBytes(OutFeatures(block, group), statistics.in_features,
                                                  params.method, stored.activations, concurrency));
      }
      held += packed;
      cost.most_output_bytes += packed;
      if (fit.fits && last) held -= StatisticsBytes(statistics);
      // The tensor that takes the fold becomes F32.
      if (fit.fits && into_linear) {
        const LinearShape& shape = block.linears[group.fold.index].shape;
        held += (4 - stored_bytes) * shape.out_features * shape.in_features;
      }
      cost.most_bytes = std::max(cost.most_bytes, held);
    }
  }
  return cost;
}

}  // namespace salient
