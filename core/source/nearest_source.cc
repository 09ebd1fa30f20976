#include "core/source/nearest_source.h"

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/parallel/executor.h"
#include "core/result/quantizable_groups.h"
#include "core/source/decoded_source.h"

namespace salient {
namespace {

class NearestSource final : public RoundedSource {
 public:
  // `formats` are valid and of as many layers as the model has.
  static std::unique_ptr<TensorSource> Open(const TensorSource& source, const Model& model,
                                            const NearestFormats& formats) {
    std::vector<Weight> weights;
    std::map<std::string, WeightFormat, std::less<>> by_module;
    for (size_t layer = 0; layer < formats.size(); ++layer) {
      for (size_t i = 0; i < formats[layer].size(); ++i) {
        if (!formats[layer][i].has_value()) continue;
        const LinearPlan& linear = model.blocks[layer].linears[i];
        weights.emplace_back(linear.name, linear.shape);
        by_module.emplace(linear.name, *formats[layer][i]);
      }
    }
    return std::unique_ptr<TensorSource>(
        new NearestSource(source, std::move(weights), std::move(by_module)));
  }

 private:
  NearestSource(const TensorSource& source, std::vector<Weight> weights,
                std::map<std::string, WeightFormat, std::less<>> formats)
      : RoundedSource(source, std::move(weights)), formats_(std::move(formats)) {}

  absl::Status Decode(const Weight& weight, int64_t first, int64_t count,
                      RowSink out) const override {
    const WeightFormat& format = formats_.find(weight.module)->second;
    // One scale for the whole tensor: all of it has a say.
    const bool whole = format.group_size == kWholeTensor;
    const int64_t from = whole ? 0 : first;
    const absl::StatusOr<AffineGroups> groups =
        Round(weight, from, whole ? weight.shape.out_features : count, format);
    if (!groups.ok()) return groups.status();
    std::vector<float> row(static_cast<size_t>(groups->in_features));
    for (int64_t i = first; i < first + count; ++i) {
      groups->DecodeRow(i - from, row.data());
      out(row.data());
    }
    return absl::OkStatus();
  }

  // Rounds rows [first, first + count).
  absl::StatusOr<AffineGroups> Round(const Weight& weight, int64_t first, int64_t count,
                                     const WeightFormat& format) const {
    const absl::StatusOr<StoredRows> rows = ReadRows(weight, first, count);
    if (!rows.ok()) return rows.status();
    const std::vector<float> ones(static_cast<size_t>(rows->in_features), 1.0f);
    SerialExecutor executor;
    const absl::StatusOr<Ranges> ranges =
        RangeMinMax(rows->View(), ones, format, /*autoawq=*/false, executor);
    if (!ranges.ok()) return InRows(weight, first, ranges.status());
    return RoundNearest(rows->View(), ones, *ranges, format, executor);
  }

  const std::map<std::string, WeightFormat, std::less<>> formats_;  // They stand by module.
};

absl::Status CheckFormats(const Model& model, const NearestFormats& formats) {
  if (formats.size() != model.blocks.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(model.config.source, ": num_hidden_layers is ", model.blocks.size(),
                     "; expected ", formats.size(), ", as the model that it is compared with has"));
  }
  for (const BlockPlan& block : model.blocks) {
    const auto& of_block = formats[static_cast<size_t>(block.layer)];
    for (size_t i = 0; i < of_block.size(); ++i) {
      if (!of_block[i].has_value()) continue;
      const LinearPlan& linear = block.linears[i];
      // The layout of a file says more only of odd shapes.
      absl::Status status =
          ValidateLinear(linear.name, linear.shape.out_features, linear.shape.in_features,
                         {*of_block[i], OutputFormat::kDequantizedFp16});
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NearestFormats> NearestFormatsOf(const Model& model, const WeightFormat& format) {
  const auto fits =
      QuantizableGroups(model, {format, OutputFormat::kDequantizedFp16}, /*strict=*/false);
  if (!fits.ok()) return fits.status();
  NearestFormats formats;
  for (const BlockPlan& block : model.blocks) {
    auto& of_block = formats.emplace_back(block.linears.size());
    const BlockFits& of_groups = (*fits)[static_cast<size_t>(block.layer)];
    for (size_t group = 0; group < block.groups.size(); ++group) {
      if (!of_groups[group].fits) continue;
      for (const size_t linear : block.groups[group].linears) of_block[linear] = format;
    }
  }
  return formats;
}

absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestByLinear(
    const TensorSource& source, const Model& model, const NearestFormats& formats) {
  if (absl::Status status = CheckFormats(model, formats); !status.ok()) return status;
  return NearestSource::Open(source, model, formats);
}

absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestSource(const TensorSource& source,
                                                                   const Model& model,
                                                                   const WeightFormat& format) {
  const absl::StatusOr<NearestFormats> formats = NearestFormatsOf(model, format);
  if (!formats.ok()) return formats.status();
  return RoundToNearestByLinear(source, model, *formats);
}

InputRoundings RoundToNearestInputs(const NearestFormats& formats, ActivationFormat activations) {
  if (activations == ActivationFormat::kNone) return {};
  InputRoundings roundings(formats.size());
  for (size_t layer = 0; layer < formats.size(); ++layer) {
    for (const std::optional<WeightFormat>& format : formats[layer]) {
      InputRounding& rounding = roundings[layer].emplace_back();
      if (format.has_value()) rounding = {ActivationFormat::kDynamicToken, 0};
    }
  }
  return roundings;
}

}  // namespace salient
