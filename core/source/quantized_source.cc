#include "core/source/quantized_source.h"

#include <optional>
#include <utility>

#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/source/decoded_source.h"
#include "core/source/packed_linear.h"

namespace salient {
namespace {

class PackedSource final : public DecodedSource {
 public:
  PackedSource(const TensorSource& source, const Model& model)
      : DecodedSource(source, AllLinears(model)), config_(model.config) {}

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
                                                                  const Model& model) {
  const auto& quantization = model.config.quantization;
  if (!quantization.has_value()) return std::make_unique<PlainSource>(source);
  if (!quantization->readable.ok()) return quantization->readable;
  return std::make_unique<PackedSource>(source, model);
}

absl::StatusOr<InputRoundings> ReadInputRoundings(const TensorSource& source, const Model& model) {
  const auto& quantization = model.config.quantization;
  if (!quantization.has_value()) return InputRoundings();
  if (!quantization->readable.ok()) return quantization->readable;
  InputRoundings roundings;
  for (const BlockPlan& block : model.blocks) {
    std::vector<InputRounding>& of_block = roundings.emplace_back();
    for (const LinearPlan& plan : block.linears) {
      InputRounding& rounding = of_block.emplace_back();
      const absl::StatusOr<std::optional<PackedLinear>> linear =
          PackedLinear::Find(source, model.config, plan.name, plan.shape);
      if (!linear.ok()) return linear.status();
      if (!linear->has_value()) continue;
      const absl::StatusOr<InputRounding> read = (*linear)->ReadInputRounding(source);
      if (!read.ok()) return read.status();
      rounding = *read;
    }
  }
  return roundings;
}

}  // namespace salient
