#include "core/result/quantized_checkpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"
#include "core/config/model/refusal.h"
#include "core/group/pack_linears.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/model.h"
#include "core/result/left_out_tensors.h"
#include "core/result/quantizable_groups.h"
#include "core/result/quantization_config.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "core/text/quote.h"

namespace salient {
namespace {

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  for (const int64_t dimension : shape) elements *= dimension;
  return elements;
}

// Lists the tensors of the result, in the order of the model.
class TensorList {
 public:
  TensorList(const Model& model, const QuantizedCheckpointParams& params, const PlainDTypes& dtypes,
             const std::vector<BlockFits>& fits)
      : params_(params), dtypes_(dtypes), fits_(fits) {
    const std::vector<TensorSpec> outer = OuterTensors(model);
    // The embeddings come first, the others last.
    AddPlain(outer.front());
    for (const BlockPlan& block : model.blocks) AddBlock(block);
    for (size_t i = 1; i < outer.size(); ++i) AddPlain(outer[i]);
  }

  const std::vector<TensorShape>& tensors() const { return tensors_; }
  std::vector<KeptLinear>& kept() { return kept_; }
  const std::vector<LinearFormat>& linears() const { return linears_; }
  int64_t parameters() const { return parameters_; }
  // Returns the bytes that the result grows by if no Linear is quantized.
  int64_t raised_bytes() const { return raised_bytes_; }

 private:
  void AddPlain(const TensorSpec& spec) {
    parameters_ += Elements(spec.shape);
    tensors_.push_back({spec.name, dtypes_.Of(spec.name), spec.shape});
  }

  void AddBlock(const BlockPlan& block) {
    const BlockFits& fits = fits_[static_cast<size_t>(block.layer)];
    for (size_t group = 0; group < block.groups.size(); ++group) {
      for (const VectorPlan& vector : block.vectors) {
        if (vector.group == group) AddPlain({vector.name, vector.shape});
      }
      for (const size_t linear : block.groups[group].linears) {
        AddLinear(fits[group], block.linears[linear]);
      }
    }
  }

  void AddLinear(const GroupFit& fit, const LinearPlan& linear) {
    const std::string& module = linear.name;
    const LinearShape& shape = linear.shape;
    if (fit.fits) {
      const int64_t weights = shape.out_features * shape.in_features;
      parameters_ += weights;
      int64_t packed_bytes = 0;
      for (TensorShape& tensor : PackedTensors(module, shape.out_features, shape.in_features,
                                               StoredAs(params_.stored, fit.format))) {
        packed_bytes += tensor.SizeBytes();
        tensors_.push_back(std::move(tensor));
      }
      raised_bytes_ += std::max<int64_t>(0, 2 * weights - packed_bytes);
      linears_.push_back({module, fit.format});
    } else {
      AddPlain({absl::StrCat(module, ".weight"), {shape.out_features, shape.in_features}});
      kept_.push_back({module, fit.why});
    }
    if (shape.has_bias) AddPlain({absl::StrCat(module, ".bias"), {shape.out_features}});
  }

  const QuantizedCheckpointParams& params_;
  const PlainDTypes& dtypes_;
  const std::vector<BlockFits>& fits_;
  std::vector<TensorShape> tensors_;
  std::vector<KeptLinear> kept_;
  std::vector<LinearFormat> linears_;
  int64_t parameters_ = 0;
  int64_t raised_bytes_ = 0;
};

// Replaces the member of this name where it stands, or adds one at the end.
void Set(const std::string& name, JsonValue value, JsonValue::Object& object) {
  for (JsonValue::Member& member : object) {
    if (member.first != name) continue;
    member.second = std::move(value);
    return;
  }
  object.emplace_back(name, std::move(value));
}

// A null `quantization` stands for none.
absl::StatusOr<std::string> ConfigJson(const Model& model, absl::string_view source, DType dtype,
                                       const JsonValue& quantization) {
  const ModelConfig& config = model.config;
  auto document = ParseConfigJson(config.source, source);
  if (!document.ok()) return document.status();
  JsonValue::Object* object = document->AsObject();
  MendConfig(config, *object);
  const JsonValue name(std::string(dtype == DType::kBF16 ? "bfloat16" : "float16"));
  if (document->Find("dtype") != nullptr) Set("dtype", name, *object);
  Set("torch_dtype", name, *object);
  WithdrawLeftOut(model, *object);
  if (!quantization.IsNull()) Set("quantization_config", quantization, *object);
  return JsonText(*document);
}

}  // namespace

absl::Status CheckNotQuantized(const ModelConfig& config) {
  if (!config.quantization.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(config.source, ": quantization_config.quant_method is ",
                   QuoteForMessage(config.quantization->quant_method),
                   "; expected no quantization_config: a model that is not quantized yet"));
}

absl::StatusOr<QuantizedCheckpointPlan> PlanQuantizedCheckpoint(
    const Model& model, absl::string_view config_json, const QuantizedCheckpointParams& params) {
  const ModelConfig& config = model.config;
  if (absl::Status status = CheckNotQuantized(config); !status.ok()) return status;
  for (const ConfigRefusal& refusal : config.refusals) {
    if (refusal.mend != ConfigRefusal::Mend::kNone) continue;
    return absl::InvalidArgumentError(absl::StrCat(config.source, ": ", refusal.text));
  }
  if (const auto fault = FindFormatFault(params.stored); fault.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(Name(params.stored.output), ": ", fault->field,
                                                   " is ", fault->value, "; expected ",
                                                   fault->expected));
  }
  auto fits = QuantizableGroups(model, params.stored, params.strict, params.overrides);
  if (!fits.ok()) return fits.status();
  if (absl::Status status = ApplyRaised(model, params.raised, params.output, *fits); !status.ok()) {
    return status;
  }

  const PlainDTypes dtypes = params.dtypes.value_or(PlainDTypesByConfig(config));
  TensorList list(model, params, dtypes, *fits);
  std::vector<TensorSize> sizes;
  for (const TensorShape& tensor : list.tensors())
    sizes.push_back({tensor.name, tensor.SizeBytes()});
  auto shards = PlanShards(sizes, params.max_shard_bytes);
  if (!shards.ok()) return shards.status();

  QuantizedCheckpointPlan plan;
  plan.kept = std::move(list.kept());
  plan.parameters = list.parameters();
  plan.index_json = std::move(shards->index_json);
  // Engines quantize every Linear that the config does not take out.
  std::vector<std::string> kept = model.OuterLinears();
  for (const KeptLinear& linear : plan.kept) kept.push_back(linear.module);
  const auto quantization =
      QuantizationConfigJson(params.stored, list.linears(), kept, FusedModulesOf(model));
  if (!quantization.ok()) return quantization.status();
  auto text = ConfigJson(model, config_json, dtypes.config, *quantization);
  if (!text.ok()) return text.status();
  plan.config_json = *std::move(text);
  const OutputFormat output = params.stored.output;
  if (output == OutputFormat::kGptq || output == OutputFormat::kGptqV2) {
    plan.quantize_config_json = JsonText(*quantization);
  }
  plan.output_bytes = static_cast<int64_t>(plan.index_json.size() + plan.config_json.size() +
                                           plan.quantize_config_json.size());
  for (const Shard& shard : shards->shards) {
    std::vector<TensorShape> tensors;
    for (const size_t i : shard.tensors) tensors.push_back(list.tensors()[i]);
    auto layout = LayOutSafetensors(shard.file, tensors, {});
    if (!layout.ok()) return layout.status();
    plan.output_bytes += layout->file_bytes;
    plan.files.push_back({shard.file, *std::move(layout)});
  }
  plan.most_output_bytes = plan.output_bytes + list.raised_bytes();
  return plan;
}

}  // namespace salient
