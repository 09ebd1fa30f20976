#include "core/source/quantized_source.h"

#include <optional>
#include <utility>

#include "core/source/decoded_source.h"
#include "core/source/packed_linear.h"

namespace salient {
namespace {

class PackedSource final : public DecodedSource {
 public:
  PackedSource(const TensorSource& source, const Family& family, const ModelConfig& config)
      : DecodedSource(source, AllLinears(family, config)), config_(config) {}

 private:
  using Found = absl::StatusOr<std::optional<PackedLinear>>;

  Found FindPacked(const Weight& weight) const {
    return PackedLinear::Find(source(), config_, weight.module, weight.shape);
  }

  absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const override {
    const Found linear = FindPacked(weight);
    if (!linear.ok()) return linear.status();
    return linear->has_value() ? (*linear)->file() : "";
  }

  absl::Status Decode(const Weight& weight, int64_t first, int64_t count,
                      RowSink out) const override {
    const Found linear = FindPacked(weight);
    if (!linear.ok()) return linear.status();
    return (*linear)->Decode(source(), first, count, out);
  }

  const ModelConfig& config_;
};

// Nothing is replaced.
class PlainSource final : public TensorSource {
 public:
  explicit PlainSource(const TensorSource& source) : source_(source) {}
  const std::string& name() const override { return source_.name(); }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    return source_.Find(tensor);
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    return source_.ReadRange(tensor, offset, bytes);
  }

 private:
  const TensorSource& source_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> OpenQuantizedSource(const TensorSource& source,
                                                                  const ModelConfig& config) {
  if (!config.quantization.has_value()) return std::make_unique<PlainSource>(source);
  if (!config.quantization->readable.ok()) return config.quantization->readable;
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  return std::make_unique<PackedSource>(source, **family, config);
}

absl::StatusOr<InputRoundings> ReadInputRoundings(const TensorSource& source,
                                                  const ModelConfig& config) {
  if (!config.quantization.has_value()) return InputRoundings();
  if (!config.quantization->readable.ok()) return config.quantization->readable;
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  InputRoundings roundings(static_cast<size_t>(config.num_hidden_layers));
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (size_t i = 0; i < kLinearRoles; ++i) {
      const auto role = static_cast<LinearRole>(i);
      const absl::StatusOr<std::optional<PackedLinear>> linear = PackedLinear::Find(
          source, config, LinearName(**family, layer, role), ShapeOf(**family, config, role));
      if (!linear.ok()) return linear.status();
      if (!linear->has_value()) continue;
      const absl::StatusOr<InputRounding> rounding = (*linear)->ReadInputRounding(source);
      if (!rounding.ok()) return rounding.status();
      roundings[static_cast<size_t>(layer)][i] = *rounding;
    }
  }
  return roundings;
}

}  // namespace salient
