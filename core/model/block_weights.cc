#include "core/model/block_weights.h"

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/parallel/tiles.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"
#include "core/text/quote.h"

namespace salient {
namespace {

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<StoredLinear> ReadLinear(const TensorSource& source, const ModelConfig& config,
                                        const LinearPlan& plan) {
  const LinearShape& shape = plan.shape;
  StoredLinear linear;
  linear.name = plan.name;
  linear.out_features = shape.out_features;
  linear.in_features = shape.in_features;
  const std::string weight = absl::StrCat(linear.name, ".weight");
  const auto found = FindTensor(source, config, {weight, {shape.out_features, shape.in_features}});
  if (!found.ok()) return found.status();
  linear.dtype = found->entry->dtype;
  linear.weight.resize(static_cast<size_t>(found->entry->SizeBytes()));
  absl::Status status = source.ReadRange(weight, 0, absl::MakeSpan(linear.weight));
  if (!status.ok()) return status;
  if (!shape.has_bias) return linear;
  auto bias =
      ReadVector(source, config, {absl::StrCat(linear.name, ".bias"), {shape.out_features}});
  if (!bias.ok()) return bias.status();
  linear.bias = *std::move(bias);
  return linear;
}

// Says that a tensor is not there, and what is there in its place.
absl::Status Missing(const TensorSource& source, const ModelConfig& config,
                     const TensorSpec& spec) {
  const std::string expected = absl::StrCat(ShapeText(spec.shape), " from ", config.source);
  absl::string_view module = spec.name;
  if (absl::ConsumeSuffix(&module, ".weight")) {
    for (const absl::string_view packed : {".qweight", ".weight_packed"}) {
      const std::string name = absl::StrCat(module, packed);
      if (!source.Find(name).ok()) continue;
      if (!config.quantization.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat(
            source.name(), ": tensor ", QuoteForMessage(name), " is quantized, but ", config.source,
            " has no quantization_config; expected it there, as quantize_config.json or "
            "quant_config.json beside it may have it"));
      }
      return absl::InvalidArgumentError(
          absl::StrCat(source.name(), ": ", QuoteForMessage(module), " is quantized (tensor ",
                       QuoteForMessage(name), "); expected ", QuoteForMessage(spec.name),
                       ", not quantized, ", expected));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      source.name(), ": tensor ", QuoteForMessage(spec.name), " is missing; expected ", expected));
}

}  // namespace

absl::StatusOr<TensorLocation> FindTensor(const TensorSource& source, const ModelConfig& config,
                                          const TensorSpec& spec) {
  auto found = source.Find(spec.name);
  if (absl::IsNotFound(found.status())) return Missing(source, config, spec);
  if (!found.ok()) return found.status();
  const TensorEntry& entry = *found->entry;
  const std::string tensor =
      absl::StrCat(found->file, ": tensor ", QuoteForMessage(spec.name), ": ");
  if (entry.shape != spec.shape) {
    return absl::InvalidArgumentError(absl::StrCat(tensor, "shape is ", ShapeText(entry.shape),
                                                   "; expected ", ShapeText(spec.shape), " from ",
                                                   config.source));
  }
  if (!IsFloat(entry.dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat(tensor, "dtype is ", Name(entry.dtype), "; expected F32, F16 or BF16"));
  }
  return found;
}

absl::Status InItsFile(const TensorSource& source, absl::string_view tensor,
                       const absl::Status& status) {
  if (status.ok()) return status;
  const auto found = source.Find(tensor);
  if (!found.ok()) return status;
  const std::string message = absl::StrCat(found->file, ": ", status.message());
  return IsNonFinite(status) ? NonFiniteError(message) : absl::Status(status.code(), message);
}

absl::Status CheckModelTensors(const TensorSource& source, const Model& model) {
  std::vector<TensorSpec> specs = OuterTensors(model);
  for (const BlockPlan& block : model.blocks) {
    for (TensorSpec& spec : BlockTensors(block)) specs.push_back(std::move(spec));
  }
  for (const TensorSpec& spec : specs) {
    const auto found = FindTensor(source, model.config, spec);
    if (!found.ok()) return found.status();
  }
  return absl::OkStatus();
}

absl::StatusOr<StoredVector> ReadVector(const TensorSource& source, const ModelConfig& config,
                                        const TensorSpec& spec) {
  const auto found = FindTensor(source, config, spec);
  if (!found.ok()) return found.status();
  std::vector<std::byte> bytes(static_cast<size_t>(found->entry->SizeBytes()));
  absl::Status status = source.ReadRange(spec.name, 0, absl::MakeSpan(bytes));
  if (!status.ok()) return status;
  StoredVector vector;
  vector.name = spec.name;
  vector.shape = spec.shape;
  vector.dtype = found->entry->dtype;
  const int64_t count = static_cast<int64_t>(bytes.size()) / SizeOf(vector.dtype);
  vector.values.resize(static_cast<size_t>(count));
  WidenToF32(vector.dtype, bytes.data(), count, vector.values.data());
  status = InItsFile(source, spec.name, CheckFinite(spec.name, vector.values.data(), 1, count, 0));
  if (!status.ok()) return status;
  return vector;
}

absl::StatusOr<BlockWeights> ReadUncheckedBlock(const TensorSource& source, const Model& model,
                                                int64_t layer, Executor& executor) {
  const BlockPlan& plan = model.blocks[static_cast<size_t>(layer)];
  BlockWeights block;
  block.layer = layer;
  for (const VectorPlan& vector : plan.vectors) {
    auto stored = ReadVector(source, model.config, {vector.name, vector.shape});
    if (!stored.ok()) return stored.status();
    block.vectors.push_back(*std::move(stored));
  }
  block.linears.resize(plan.linears.size());
  const auto linears = static_cast<int64_t>(plan.linears.size());
  absl::Status status = executor.ForEach(linears, [&](int64_t i) {
    const auto index = static_cast<size_t>(i);
    auto linear = ReadLinear(source, model.config, plan.linears[index]);
    if (!linear.ok()) return linear.status();
    block.linears[index] = *std::move(linear);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return block;
}

// A NaN must be found here, where it has a name: in the forward pass it would reach everything.
absl::Status CheckBlock(const TensorSource& source, const BlockWeights& block, Executor& executor) {
  std::vector<std::pair<const StoredLinear*, int64_t>> tiles;
  for (const StoredLinear& linear : block.linears) {
    const int64_t count = RowTiles(linear.out_features, kRowTile).size();
    for (int64_t tile = 0; tile < count; ++tile) tiles.emplace_back(&linear, tile);
  }
  return executor.ForEach(static_cast<int64_t>(tiles.size()), [&](int64_t i) {
    const auto& [linear, tile] = tiles[static_cast<size_t>(i)];
    const RowTiles rows(linear->out_features, kRowTile);
    const int64_t first = rows.First(tile);
    const int64_t count = rows.Count(tile);
    std::vector<float> values(static_cast<size_t>(count * linear->in_features));
    linear->View().ReadRows(first, count, values.data());
    const std::string weight = absl::StrCat(linear->name, ".weight");
    return InItsFile(source, weight,
                     CheckFinite(weight, values.data(), count, linear->in_features, first));
  });
}

absl::StatusOr<BlockWeights> ReadBlock(const TensorSource& source, const Model& model,
                                       int64_t layer, Executor& executor) {
  absl::StatusOr<BlockWeights> block = ReadUncheckedBlock(source, model, layer, executor);
  if (!block.ok()) return block.status();
  if (absl::Status status = CheckBlock(source, *block, executor); !status.ok()) return status;
  return block;
}

namespace {

// Returns whether all elements are 0 of either sign. The first one tells for most weights.
bool IsZero(const StoredLinear& linear) {
  const auto size = static_cast<size_t>(SizeOf(linear.dtype));
  for (size_t i = 0; i < linear.weight.size(); ++i) {
    const bool has_sign = i % size == size - 1;
    if ((linear.weight[i] & std::byte(has_sign ? 0x7F : 0xFF)) != std::byte{0}) return false;
  }
  return true;
}

}  // namespace

std::vector<std::string> ZeroTensors(const BlockPlan& plan, const BlockWeights& block) {
  std::vector<std::string> zero;
  for (const NormPlan& norm : plan.norms) {
    if (norm.rule.plus_one) continue;
    const StoredVector& vector = block.vectors[norm.weight];
    if (absl::c_all_of(vector.values, [](float value) { return value == 0; })) {
      zero.push_back(vector.name);
    }
  }
  for (const StoredLinear& linear : block.linears) {
    if (IsZero(linear)) zero.push_back(absl::StrCat(linear.name, ".weight"));
  }
  return zero;
}

std::string DescribeZero(absl::Span<const std::string> tensors) {
  const size_t more = tensors.size() - 1;
  return absl::StrCat(
      tensors[0],
      more == 0 ? "" : absl::StrCat(" and ", more, more == 1 ? " more tensor" : " more tensors"),
      ": every element is 0; expected trained weights");
}

}  // namespace salient
