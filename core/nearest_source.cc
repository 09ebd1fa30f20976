#include "core/nearest_source.h"

#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/decoded_source.h"
#include "core/linalg/executor.h"
#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/quantizable_groups.h"

namespace salient {
namespace {

using RoundedRoles = std::array<bool, kLinearRoles>;

// What the format alone can hold: the layout of a file says more only of odd shapes.
absl::StatusOr<RoundedRoles> RolesToRound(const Family& family, const ModelConfig& config,
                                          const WeightFormat& format) {
  const auto fits = QuantizableGroups(family, config, {format, OutputFormat::kDequantizedFp16},
                                      /*strict=*/false);
  if (!fits.ok()) return fits.status();
  // Without overrides all blocks are alike.
  RoundedRoles rounded = {};
  for (const GroupRow& row : family.groups) {
    for (LinearRole role : row.linears) {
      rounded[static_cast<size_t>(role)] = fits->front()[static_cast<size_t>(row.role)].fits;
    }
  }
  return rounded;
}

class NearestSource final : public DecodedSource {
 public:
  NearestSource(const TensorSource& source, const Family& family, const ModelConfig& config,
                const WeightFormat& format, const RoundedRoles& rounded)
      : DecodedSource(source, family, config), format_(format), rounded_(rounded) {}

 private:
  // A tensor that is not what the config makes expected is shown as it is, for FindTensor to say.
  absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const override {
    if (!rounded_[static_cast<size_t>(weight.role)]) return "";
    const auto found = source().Find(weight.entry.name);
    if (!found.ok()) return found.status();
    const bool expected = found->entry->shape == weight.entry.shape && IsFloat(found->entry->dtype);
    return expected ? found->file : "";
  }

  absl::Status Decode(const Weight& weight, int64_t first, int64_t count,
                      RowSink out) const override {
    // One scale for the whole tensor: all of it has a say.
    const bool whole = format_.group_size == kWholeTensor;
    const int64_t from = whole ? 0 : first;
    const absl::StatusOr<AffineGroups> groups =
        Round(weight, from, whole ? weight.out_features() : count);
    if (!groups.ok()) return groups.status();
    std::vector<float> row(static_cast<size_t>(groups->in_features));
    for (int64_t i = first; i < first + count; ++i) {
      groups->DecodeRow(i - from, row.data());
      out(row.data());
    }
    return absl::OkStatus();
  }

  // Rows [first, first + count).
  absl::StatusOr<AffineGroups> Round(const Weight& weight, int64_t first, int64_t count) const {
    const auto found = source().Find(weight.entry.name);
    if (!found.ok()) return found.status();
    const int64_t columns = weight.in_features();
    const DType dtype = found->entry->dtype;
    std::vector<std::byte> stored(static_cast<size_t>(count * columns * SizeOf(dtype)));
    absl::Status status = source().ReadRange(weight.entry.name, first * columns * SizeOf(dtype),
                                             absl::MakeSpan(stored));
    if (!status.ok()) return status;
    const WeightView view = {dtype, stored.data(), count, columns};
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t i = 0; i < count; ++i) {
      view.ReadRows(i, 1, row.data());
      status = CheckFinite(weight.entry.name, row.data(), 1, columns, first + i);
      if (!status.ok()) return status;
    }
    const std::vector<float> ones(static_cast<size_t>(columns), 1.0f);
    SerialExecutor executor;
    const absl::StatusOr<Ranges> ranges =
        RangeMinMax(view, ones, format_, /*autoawq=*/false, executor);
    if (!ranges.ok()) {
      return absl::Status(ranges.status().code(),
                          absl::StrCat(weight.entry.name, ", from row ", first,
                                       " on: ", ranges.status().message()));
    }
    return RoundNearest(view, ones, *ranges, format_, executor);
  }

  WeightFormat format_;
  RoundedRoles rounded_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestSource(const TensorSource& source,
                                                                   const ModelConfig& config,
                                                                   const WeightFormat& format) {
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  const absl::StatusOr<RoundedRoles> rounded = RolesToRound(**family, config, format);
  if (!rounded.ok()) return rounded.status();
  return std::make_unique<NearestSource>(source, **family, config, format, *rounded);
}

absl::StatusOr<InputRoundings> RoundToNearestInputs(const ModelConfig& config,
                                                    const WeightFormat& format,
                                                    ActivationFormat activations) {
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  const absl::StatusOr<RoundedRoles> rounded = RolesToRound(**family, config, format);
  if (!rounded.ok()) return rounded.status();
  if (activations == ActivationFormat::kNone) return InputRoundings();
  std::array<InputRounding, kLinearRoles> of_block;
  for (size_t role = 0; role < kLinearRoles; ++role) {
    if ((*rounded)[role]) of_block[role] = {ActivationFormat::kDynamicToken, 0};
  }
  return InputRoundings(static_cast<size_t>(config.num_hidden_layers), of_block);
}

}  // namespace salient
