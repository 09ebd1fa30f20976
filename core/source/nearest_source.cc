#include "core/source/nearest_source.h"

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/parallel/executor.h"
#include "core/result/quantizable_groups.h"
#include "core/source/decoded_source.h"

namespace salient {
namespace {

class NearestSource final : public RoundedSource {
 public:
  // `formats` are valid and of as many layers as the model has.
  static std::unique_ptr<TensorSource> Open(const TensorSource& source, const Family& family,
                                            const ModelConfig& config,
                                            const NearestFormats& formats) {
    std::vector<Weight> weights;
    std::map<std::string, WeightFormat, std::less<>> by_module;
    for (size_t layer = 0; layer < formats.size(); ++layer) {
      for (size_t i = 0; i < kLinearRoles; ++i) {
        if (!formats[layer][i].has_value()) continue;
        const auto role = static_cast<LinearRole>(i);
        std::string module = LinearName(family, static_cast<int64_t>(layer), role);
        weights.emplace_back(module, ShapeOf(family, config, role));
        by_module.emplace(std::move(module), *formats[layer][i]);
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

absl::Status CheckFormats(const Family& family, const ModelConfig& config,
                          const NearestFormats& formats) {
  if (static_cast<int64_t>(formats.size()) != config.num_hidden_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.source, ": num_hidden_layers is ", config.num_hidden_layers,
                     "; expected ", formats.size(), ", as the model that it is compared with has"));
  }
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (size_t i = 0; i < kLinearRoles; ++i) {
      const std::optional<WeightFormat>& format = formats[static_cast<size_t>(layer)][i];
      if (!format.has_value()) continue;
      const auto role = static_cast<LinearRole>(i);
      const LinearShape shape = ShapeOf(family, config, role);
      // The layout of a file says more only of odd shapes.
      absl::Status status =
          ValidateLinear(LinearName(family, layer, role), shape.out_features, shape.in_features,
                         {*format, OutputFormat::kDequantizedFp16});
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NearestFormats> NearestFormatsOf(const ModelConfig& config,
                                                const WeightFormat& format) {
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  const auto fits = QuantizableGroups(**family, config, {format, OutputFormat::kDequantizedFp16},
                                      /*strict=*/false);
  if (!fits.ok()) return fits.status();
  NearestFormats formats(fits->size());
  for (size_t layer = 0; layer < fits->size(); ++layer) {
    for (const GroupRow& row : (*family)->groups) {
      if (!(*fits)[layer][static_cast<size_t>(row.role)].fits) continue;
      for (const LinearRole role : row.linears) formats[layer][static_cast<size_t>(role)] = format;
    }
  }
  return formats;
}

absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestByLinear(
    const TensorSource& source, const ModelConfig& config, const NearestFormats& formats) {
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  if (absl::Status status = CheckFormats(**family, config, formats); !status.ok()) return status;
  return NearestSource::Open(source, **family, config, formats);
}

absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestSource(const TensorSource& source,
                                                                   const ModelConfig& config,
                                                                   const WeightFormat& format) {
  const absl::StatusOr<NearestFormats> formats = NearestFormatsOf(config, format);
  if (!formats.ok()) return formats.status();
  return RoundToNearestByLinear(source, config, *formats);
}

InputRoundings RoundToNearestInputs(const NearestFormats& formats, ActivationFormat activations) {
  if (activations == ActivationFormat::kNone) return {};
  InputRoundings roundings(formats.size());
  for (size_t layer = 0; layer < formats.size(); ++layer) {
    for (size_t i = 0; i < kLinearRoles; ++i) {
      if (formats[layer][i].has_value()) {
        roundings[layer][i] = {ActivationFormat::kDynamicToken, 0};
      }
    }
  }
  return roundings;
}

}  // namespace salient
