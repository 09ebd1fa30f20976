#include "core/checkpoint/model_config.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/json.h"

namespace salient {
namespace {

// Far above any published model, far below where a product of two would overflow.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxLayers = 1 << 12;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxVocabulary = 1 << 24;
constexpr int64_t kMaxPositions = int64_t{1} << 32;
constexpr double kMaxRopeTheta = 1e15;

struct Rope {
  double theta = 10000;
  std::optional<Llama3RopeScaling> llama3;
};

std::string ReadArchitecture(ConfigFields& fields) {
  const std::string expected = "a list of one architecture, such as [\"LlamaForCausalLM\"]";
  const JsonValue* value = fields.Value("architectures");
  if (value == nullptr) {
    fields.Invalid("architectures", "missing or null", expected);
    return "";
  }
  const JsonValue::Array* list = value->AsArray();
  if (list == nullptr || list->size() != 1) {
    fields.Invalid("architectures", value->Describe(), expected);
    return "";
  }
  const std::string* name = list->front().AsString();
  if (name == nullptr || name->empty()) {
    fields.Invalid("architectures[0]", list->front().Describe(), "the name of an architecture");
    return "";
  }
  return *name;
}

absl::StatusOr<Llama3RopeScaling> ReadLlama3(ConfigFields& fields) {
  Llama3RopeScaling scaling;
  scaling.factor = fields.RequiredNumber("factor", 1, 1e6);
  scaling.low_freq_factor = fields.RequiredNumber("low_freq_factor", 1e-6, 1e6);
  scaling.high_freq_factor = fields.RequiredNumber("high_freq_factor", 1e-6, 1e6);
  scaling.original_max_position_embeddings =
      fields.RequiredInteger("original_max_position_embeddings", 1, kMaxPositions);
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    fields.Invalid("high_freq_factor", absl::StrCat(scaling.high_freq_factor),
                   absl::StrCat("more than low_freq_factor, ", scaling.low_freq_factor));
  }
  if (!fields.status().ok()) return fields.status();
  return scaling;
}

// The object under `field`, either rope_scaling or rope_parameters (which holds theta as well).
absl::Status ReadRopeObject(absl::string_view source, absl::string_view field,
                            const JsonValue& object, Rope& rope) {
  if (object.AsObject() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": ", field, " is ", object.Describe(), "; expected an object"));
  }
  for (const JsonValue::Member& member : *object.AsObject()) {
    if (member.second.AsObject() == nullptr) continue;
    return absl::UnimplementedError(
        absl::StrCat(source, ": ", field, "[", QuoteForMessage(member.first),
                     "] is an object; expected one rotary embedding for all layers"));
  }
  ConfigFields fields(source, absl::StrCat(field, "."), object);
  if (const auto theta = fields.Number("rope_theta", 1, kMaxRopeTheta)) rope.theta = *theta;
  const std::optional<std::string> new_name = fields.String("rope_type");
  const std::optional<std::string> old_name = fields.String("type");
  if (new_name.has_value() && old_name.has_value() && *new_name != *old_name) {
    fields.Invalid("type", QuoteForMessage(*old_name),
                   absl::StrCat("what rope_type says, ", QuoteForMessage(*new_name)));
  }
  const std::string type = new_name.value_or(old_name.value_or("default"));
  if (const auto factor = fields.Number("partial_rotary_factor", 0, 1); factor.value_or(1) != 1) {
    fields.Unsupported("partial_rotary_factor", absl::StrCat(*factor), "1");
  }
  if (!fields.status().ok()) return fields.status();
  if (type == "default") return absl::OkStatus();
  if (type != "llama3") {
    fields.Unsupported("rope_type", QuoteForMessage(type), "\"default\" or \"llama3\"");
    return fields.status();
  }
  const auto llama3 = ReadLlama3(fields);
  if (!llama3.ok()) return llama3.status();
  rope.llama3 = *llama3;
  return absl::OkStatus();
}

absl::StatusOr<Rope> ReadRope(absl::string_view source, ConfigFields& fields) {
  Rope rope;
  const JsonValue* scaling = fields.Value("rope_scaling");
  const JsonValue* parameters = fields.Value("rope_parameters");
  const std::optional<double> theta = fields.Number("rope_theta", 1, kMaxRopeTheta);
  if (theta.has_value()) rope.theta = *theta;
  if (scaling != nullptr && parameters != nullptr) {
    fields.Invalid("rope_scaling", scaling->Describe(),
                   "nothing beside rope_parameters, which says the same");
  }
  if (!fields.status().ok()) return fields.status();
  const absl::string_view name = scaling != nullptr ? "rope_scaling" : "rope_parameters";
  const JsonValue* object = scaling != nullptr ? scaling : parameters;
  if (object == nullptr) return rope;
  if (absl::Status status = ReadRopeObject(source, name, *object, rope); !status.ok()) {
    return status;
  }
  if (theta.has_value() && rope.theta != *theta) {
    fields.Invalid("rope_theta", absl::StrCat(*theta),
                   absl::StrCat("what ", name, ".rope_theta says, ", rope.theta));
    return fields.status();
  }
  return rope;
}

std::optional<int64_t> ReadSlidingWindow(ConfigFields& fields) {
  const std::optional<int64_t> window = fields.Integer("sliding_window", 1, kMaxPositions);
  const std::optional<bool> use = fields.Bool("use_sliding_window");
  if (use == true) {
    fields.Unsupported("use_sliding_window", "true", "false: a window in some layers only");
  }
  if (const JsonValue* types = fields.Value("layer_types")) {
    const JsonValue::Array* list = types->AsArray();
    if (list == nullptr) fields.Invalid("layer_types", types->Describe(), "a list of strings");
    for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
      const std::string* type = (*list)[i].AsString();
      if (type != nullptr && *type == "full_attention") continue;
      fields.Unsupported(absl::StrCat("layer_types[", i, "]"), (*list)[i].Describe(),
                         "\"full_attention\"");
    }
    return std::nullopt;
  }
  return use == false ? std::nullopt : window;
}

std::optional<DType> ReadDType(ConfigFields& fields) {
  const std::optional<std::string> old_name = fields.String("torch_dtype");
  const std::optional<std::string> new_name = fields.String("dtype");
  if (old_name.has_value() && new_name.has_value() && *old_name != *new_name) {
    fields.Invalid("dtype", QuoteForMessage(*new_name),
                   absl::StrCat("what torch_dtype says, ", QuoteForMessage(*old_name)));
  }
  const std::optional<std::string>& name = new_name.has_value() ? new_name : old_name;
  if (!name.has_value()) return std::nullopt;
  if (*name == "float16") return DType::kF16;
  if (*name == "bfloat16") return DType::kBF16;
  if (*name == "float32") return DType::kF32;
  fields.Unsupported(new_name.has_value() ? "dtype" : "torch_dtype", QuoteForMessage(*name),
                     "\"float16\", \"bfloat16\" or \"float32\"");
  return std::nullopt;
}

std::optional<QuantizationConfig> ReadQuantization(absl::string_view source, ConfigFields& fields) {
  const JsonValue* object = fields.Value("quantization_config");
  if (object == nullptr || !fields.status().ok()) return std::nullopt;
  absl::StatusOr<QuantizationConfig> quantization = ParseQuantizationConfig(source, *object);
  fields.Take(quantization.status());
  if (!quantization.ok()) return std::nullopt;
  return *std::move(quantization);
}

void ReadHeads(ConfigFields& fields, ModelConfig& config) {
  config.num_attention_heads = fields.RequiredInteger("num_attention_heads", 1, kMaxHeads);
  config.num_key_value_heads =
      fields.Integer("num_key_value_heads", 1, kMaxHeads).value_or(config.num_attention_heads);
  if (!fields.status().ok()) return;
  const int64_t heads = config.num_attention_heads;
  if (heads % config.num_key_value_heads != 0) {
    fields.Invalid("num_key_value_heads", absl::StrCat(config.num_key_value_heads),
                   absl::StrCat("a divisor of num_attention_heads, ", heads));
  }
  const std::optional<int64_t> head_dim = fields.Integer("head_dim", 2, kMaxHeadDim);
  if (!head_dim.has_value() && config.hidden_size % heads != 0) {
    fields.Invalid(
        "hidden_size", absl::StrCat(config.hidden_size),
        absl::StrCat("a multiple of num_attention_heads, ", heads, ", or a head_dim of its own"));
  }
  config.head_dim = head_dim.value_or(config.hidden_size / heads);
  if (config.head_dim % 2 != 0) {
    fields.Invalid("head_dim", absl::StrCat(config.head_dim),
                   "an even number: rotary embedding turns pairs");
  }
  if (config.head_dim * heads > kMaxWidth) {
    fields.Invalid("head_dim", absl::StrCat(config.head_dim),
                   absl::StrCat("at most ", kMaxWidth / heads, " with ", heads, " heads"));
  }
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view source, absl::string_view json) {
  const auto document = ParseJson(source, json);
  if (!document.ok()) return document.status();
  if (document->AsObject() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": is ", document->Describe(), "; expected an object"));
  }
  ConfigFields fields(source, "", *document);
  ModelConfig config;
  config.source = std::string(source);
  config.architecture = ReadArchitecture(fields);
  config.hidden_size = fields.RequiredInteger("hidden_size", 1, kMaxWidth);
  config.intermediate_size = fields.RequiredInteger("intermediate_size", 1, kMaxWidth);
  config.num_hidden_layers = fields.RequiredInteger("num_hidden_layers", 1, kMaxLayers);
  ReadHeads(fields, config);
  config.vocab_size = fields.RequiredInteger("vocab_size", 1, kMaxVocabulary);
  config.rms_norm_eps = fields.RequiredNumber("rms_norm_eps", 1e-20, 1);

  const std::string activation = fields.String("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish") {
    fields.Unsupported("hidden_act", QuoteForMessage(activation), "\"silu\"");
  }
  config.attention_bias = fields.Bool("attention_bias").value_or(false);
  config.mlp_bias = fields.Bool("mlp_bias").value_or(false);
  config.tie_word_embeddings = fields.Bool("tie_word_embeddings").value_or(false);
  config.max_position_embeddings = fields.Integer("max_position_embeddings", 1, kMaxPositions);
  config.sliding_window = ReadSlidingWindow(fields);
  config.dtype = ReadDType(fields);
  config.quantization = ReadQuantization(source, fields);
  if (const auto factor = fields.Number("partial_rotary_factor", 0, 1); factor.value_or(1) != 1) {
    fields.Unsupported("partial_rotary_factor", absl::StrCat(*factor), "1");
  }
  if (!fields.status().ok()) return fields.status();

  const auto rope = ReadRope(source, fields);
  if (!rope.ok()) return rope.status();
  config.rope_theta = rope->theta;
  config.llama3_rope = rope->llama3;
  return config;
}

}  // namespace salient
