#include "core/engines/describe_model.h"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/config/model/refusal.h"
#include "core/engines/stated_quantization.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "core/safetensors/layout.h"
#include "core/safetensors/safetensors.h"
#include "core/source/quantized_source.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// Shows the headers of a plan's files: tensors that have no bytes yet.
class PlannedSource final : public TensorSource {
 public:
  explicit PlannedSource(const QuantizedCheckpointPlan& plan) {
    for (const QuantizedFile& file : plan.files) {
      for (const SafetensorsLayout::Place& place : file.layout.places) {
        const TensorShape& tensor = place.tensor;
        tensors_[tensor.name] = {tensor.name, tensor.dtype, tensor.shape, place.begin, place.end};
      }
    }
  }

  const std::string& name() const override { return name_; }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end()) {
      return absl::NotFoundError(absl::StrCat(name_, ": no tensor ", tensor));
    }
    return TensorLocation{name_, &found->second};
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t /*offset*/,
                         absl::Span<std::byte> /*bytes*/) const override {
    return absl::NotFoundError(absl::StrCat(name_, ": tensor ", tensor, " is not there yet"));
  }

 private:
  const std::string name_ = "the plan";
  std::map<std::string, TensorEntry, std::less<>> tensors_;
};

// Counts bytes of tensors as they are asked for.
class Headers {
 public:
  explicit Headers(const TensorSource& source) : source_(source) {}

  // Returns nullptr if there is none, and for one without elements, which holds nothing.
  const TensorEntry* Find(const std::string& tensor) {
    const absl::StatusOr<TensorLocation> found = source_.Find(tensor);
    if (!found.ok() || found->entry->SizeBytes() == 0) return nullptr;
    bytes_ += found->entry->SizeBytes();
    return found->entry;
  }

  int64_t bytes() const { return bytes_; }

 private:
  const TensorSource& source_;
  int64_t bytes_ = 0;
};

// in_features of a group, from how many groups a row has and what the config says: one group may be
// of whole rows or just as large as they are.
int64_t GroupSizeOf(int64_t in_features, int64_t groups, int64_t said) {
  if (groups > 1) return in_features / groups;
  return said == in_features ? said : kWholeRow;
}

// Reads what the tensors of one Linear say. Its shapes were checked, or are a plan's.
class LinearReader {
 public:
  LinearReader(Headers& headers, const StatedQuantization& config)
      : headers_(headers), config_(config) {}

  void Read(LinearDescription& linear, ModelDescription& model) {
    const auto find = [&](absl::string_view suffix) {
      return headers_.Find(absl::StrCat(linear.module, suffix));
    };
    find(".bias");
    linear.said_plain = config_.SaysPlain(linear.module);
    linear.in_block_list = config_.InBlockList(linear.module);
    const StoredFormat said = config_.FormatOf(linear.module);
    linear.format = said.format;
    // Shapes were checked of what the config's method has; others that lie around were not.
    const std::string& method = config_.quant_method();
    const bool has_words = method == "awq" || method == "gptq";
    if (const TensorEntry* words = has_words ? find(".qweight") : nullptr; words != nullptr) {
      const TensorEntry* scales = find(".scales");
      find(".qzeros");
      find(".g_idx");
      const bool gptq = method == "gptq";
      if (gptq) linear.format.bits = Width(words->shape[0], linear.in_features);
      if (!gptq) linear.format.bits = Width(words->shape[1], linear.out_features);
      if (scales != nullptr) Take(*scales, scales->shape[0], linear);
      Quantized(gptq ? said.output : OutputFormat::kAwqGemm, said, linear, model);
    } else if (const TensorEntry* packed =
                   method == "compressed-tensors" ? find(".weight_packed") : nullptr;
               packed != nullptr) {
      const TensorEntry* scales = find(".weight_scale");
      find(".weight_shape");
      linear.format.symmetric = find(".weight_zero_point") == nullptr;
      // Words hold whole codes; the last one is padded.
      const int64_t words_a_row = packed->shape[1];
      linear.format.bits = (linear.in_features + 7) / 8 == words_a_row ? 4 : 8;
      if (scales != nullptr) TakeRows(*scales, linear);
      Quantized(OutputFormat::kCompressedTensors, said, linear, model);
      if (find(".weight_g_idx") != nullptr) model.act_order = true;
    } else if (const TensorEntry* weight = find(".weight");
               weight != nullptr && weight->dtype == DType::kI8) {
      linear.format = {8, kWholeRow, true, DType::kF32};
      if (const TensorEntry* scales = find(".weight_scale"); scales != nullptr) {
        TakeRows(*scales, linear);
      }
      Quantized(OutputFormat::kIntQuantized, said, linear, model);
      if (find(".input_scale") != nullptr) {
        model.stored.activations = ActivationFormat::kStaticTensor;
      }
    }
  }

 private:
  static int Width(int64_t words, int64_t features) {
    return static_cast<int>(words * 32 / features);
  }

  static void Take(const TensorEntry& scales, int64_t groups, LinearDescription& linear) {
    linear.format.scale_dtype = scales.dtype;
    linear.format.group_size = GroupSizeOf(linear.in_features, groups, linear.format.group_size);
  }

  // Scales [out, groups], or one of the whole tensor.
  static void TakeRows(const TensorEntry& scales, LinearDescription& linear) {
    Take(scales, scales.shape.size() == 2 ? scales.shape[1] : 1, linear);
    if (scales.shape.size() < 2 && linear.out_features > 1) {
      linear.format.group_size = kWholeTensor;
    }
  }

  void Quantized(OutputFormat layout, const StoredFormat& said, LinearDescription& linear,
                 ModelDescription& model) {
    linear.quantized = true;
    if (any_) return;
    any_ = true;
    model.stored = {linear.format, layout, said.activations};
  }

  Headers& headers_;
  const StatedQuantization& config_;
  bool any_ = false;
};

absl::StatusOr<ModelDescription> Describe(const TensorSource& source, const Model& model,
                                          absl::string_view config_json) {
  const ModelConfig& config = model.config;
  const absl::StatusOr<StatedQuantization> parsed = StatedQuantization::Parse(config, config_json);
  if (!parsed.ok()) return parsed.status();

  ModelDescription described;
  described.architecture = config.architecture;
  described.quant_method = parsed->quant_method();
  described.num_attention_heads = config.num_attention_heads;
  described.num_key_value_heads = config.num_key_value_heads;
  described.head_dim = config.head_dim;
  described.dtype = config.dtype;
  described.act_order = parsed->act_order();
  described.zero_point = parsed->zero_point();
  described.version = parsed->version();
  described.old_names = parsed->old_names();
  described.skipped = parsed->skipped();
  described.config_groups = parsed->config_groups();
  described.unknown_in_group = parsed->unknown_in_group();
  described.unknown_in_arguments = parsed->unknown_in_arguments();

  Headers headers(source);
  for (const TensorSpec& spec : OuterTensors(model)) {
    headers.Find(spec.name);
    int64_t elements = 1;
    for (const int64_t dimension : spec.shape) elements *= dimension;
    described.parameters += elements;
  }
  described.own_head = config.own_head;
  for (const ConfigRefusal& refusal : config.refusals) {
    std::vector<std::string>& refusals =
        refusal.by_model ? described.model_refusals : described.config_refusals;
    refusals.push_back(absl::StrCat(config.source, ": ", refusal.text));
  }
  for (const BlockPlan& block : model.blocks) {
    for (const VectorPlan& vector : block.vectors) {
      headers.Find(vector.name);
      described.parameters += ElementsOf({vector.name, vector.shape});
    }
    for (const LinearPlan& linear : block.linears) {
      const LinearShape& shape = linear.shape;
      described.parameters += shape.out_features * (shape.in_features + (shape.has_bias ? 1 : 0));
    }
  }
  described.linears = DescribeLinears(model);
  LinearReader reader(headers, *parsed);
  for (LinearDescription& linear : described.linears) reader.Read(linear, described);
  described.bytes = headers.bytes();
  return described;
}

}  // namespace

std::vector<LinearDescription> DescribeLinears(const Model& model) {
  std::vector<LinearDescription> linears;
  for (const BlockPlan& block : model.blocks) {
    const size_t first = linears.size();
    for (size_t i = 0; i < block.linears.size(); ++i) {
      const LinearPlan& plan = block.linears[i];
      LinearDescription& linear = linears.emplace_back();
      linear.module = plan.name;
      linear.split = plan.split;
      linear.first_sibling = first + i;
      linear.out_features = plan.shape.out_features;
      linear.in_features = plan.shape.in_features;
      if (const FusedLinears* fused = block.FusedOf(i); fused != nullptr) {
        linear.first_sibling = first + fused->linears.front();
        linear.fused_name =
            absl::StrCat(plan.name.substr(0, plan.name.rfind('.') + 1), fused->name);
      }
    }
  }
  return linears;
}

absl::StatusOr<ModelDescription> DescribeModel(const TensorSource& source, const Model& model,
                                               absl::string_view config_json) {
  const absl::StatusOr<std::unique_ptr<TensorSource>> plain = OpenQuantizedSource(source, model);
  if (!plain.ok()) return plain.status();
  if (absl::Status status = CheckModelTensors(**plain, model); !status.ok()) return status;
  return Describe(source, model, config_json);
}

absl::StatusOr<ModelDescription> DescribePlan(const QuantizedCheckpointPlan& plan, int64_t blocks) {
  absl::StatusOr<ModelConfig> config = ParseModelConfig("config.json", plan.config_json);
  if (!config.ok()) return config.status();
  if (blocks > 0) config->num_hidden_layers = blocks;
  const absl::StatusOr<Model> model = PlanModel(*config);
  if (!model.ok()) return model.status();
  return Describe(PlannedSource(plan), *model, plan.config_json);
}

}  // namespace salient
