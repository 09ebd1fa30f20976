#include "core/cost/block_cost.h"

#include <algorithm>

#include "core/group/pack_linears.h"

namespace salient {
namespace {

int64_t OutFeatures(const Family& family, const ModelConfig& config, const GroupRow& row) {
  int64_t out = 0;
  for (LinearRole role : row.linears) out += ShapeOf(family, config, role).out_features;
  return out;
}

// Returns the bytes of a group's Linears as they are written.
int64_t PackedBytes(const Family& family, const ModelConfig& config, const GroupRow& row,
                    const StoredFormat& stored, const GroupFit& fit) {
  int64_t bytes = 0;
  for (const LinearRole role : row.linears) {
    const LinearShape shape = ShapeOf(family, config, role);
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

}  // namespace

int64_t StoredBytes(const ModelConfig& config) {
  return config.dtype.has_value() ? SizeOf(*config.dtype) : 2;
}

int64_t ElementsOf(const TensorSpec& spec) {
  int64_t elements = 1;
  for (int64_t dimension : spec.shape) elements *= dimension;
  return elements;
}

StatisticsParams StatisticsOf(const Family& family, const ModelConfig& config, const GroupRow& row,
                              const Method& method) {
  StatisticsParams params;
  params.in_features = ShapeOf(family, config, row.linears[0]).in_features;
  if (NeedsWholeGram(method)) params.KeepWholeGram();
  return params;
}

BlockCost CostOfBlock(const Family& family, const ModelConfig& config,
                      const QuantizeModelParams& params, const SharedResult& result,
                      const BlockFits& fits, bool last, int concurrency, WorkCount& work) {
  BlockCost cost;
  for (const TensorSpec& spec : BlockTensors(family, config, 0)) {
    if (spec.shape.size() == 1) cost.output_bytes += 2 * ElementsOf(spec);
  }
  cost.output_bytes *= static_cast<int64_t>(result.outputs.size());
  cost.most_output_bytes = cost.output_bytes;
  int64_t held = 0;
  for (const GroupRow& row : family.groups) {
    held += StatisticsBytes(StatisticsOf(family, config, row, params.method));
  }
  // Quantizing holds statistics, what the groups before left and one group's own.
  for (const bool into_linear : {true, false}) {
    for (const GroupRow& row : family.groups) {
      if (row.fold_into_linear.has_value() != into_linear) continue;
      const StatisticsParams statistics = StatisticsOf(family, config, row, params.method);
      const int64_t weights = OutFeatures(family, config, row) * statistics.in_features;
      const GroupFit& fit = fits[static_cast<size_t>(row.role)];
      int64_t packed = 0;
      for (const size_t output : result.outputs) {
        packed += PackedBytes(family, config, row, params.outputs[output], fit);
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
        const auto linears = static_cast<double>(row.linears.size());
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
        cost.most_bytes = std::max(
            cost.most_bytes,
            held + wider + first_rounding +
                QuantizeGroupMemoryBytes(OutFeatures(family, config, row), statistics.in_features,
                                         params.method, stored.activations, concurrency));
      }
      held += packed;
      cost.most_output_bytes += packed;
      if (fit.fits && last) held -= StatisticsBytes(statistics);
      // The tensor that takes the fold becomes F32.
      if (fit.fits && into_linear) {
        const LinearShape shape = ShapeOf(family, config, *row.fold_into_linear);
        held += (4 - StoredBytes(config)) * shape.out_features * shape.in_features;
      }
      cost.most_bytes = std::max(cost.most_bytes, held);
    }
  }
  return cost;
}

}  // namespace salient
