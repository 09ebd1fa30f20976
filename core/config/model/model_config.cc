#include "core/config/model/model_config.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/config/fields.h"
#include "core/config/model/windows.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// It is far above any published model, and far below where a product of two would overflow.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxLayers = 1 << 12;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxVocabulary = 1 << 24;

using Classes = absl::Span<const ConfigClass* const>;

// Returns the class whose `name` is `value`, nullptr if there is none.
const ConfigClass* FindClass(Classes classes, absl::string_view ConfigClass::*name,
                             absl::string_view value) {
  for (const ConfigClass* config_class : classes) {
    if (config_class->*name == value) return config_class;
  }
  return nullptr;
}

// Returns the one entry of architectures; nullopt if there is none, and after a fault.
std::optional<std::string> ReadArchitecture(ConfigFields& fields) {
  const std::string expected = "a list of one architecture, such as [\"LlamaForCausalLM\"]";
  const JsonValue* value = fields.Value("architectures");
  if (value == nullptr) return std::nullopt;
  const JsonValue::Array* list = value->AsArray();
  if (list == nullptr || list->size() > 1) {
    fields.Invalid("architectures", value->Describe(), expected);
    return std::nullopt;
  }
  if (list->empty()) return std::nullopt;
  const std::string* name = list->front().AsString();
  if (name == nullptr || name->empty()) {
    fields.Invalid("architectures[0]", list->front().Describe(), "the name of an architecture");
    return std::nullopt;
  }
  return *name;
}

// Returns nullptr after a fault.
const ConfigClass* ReadClass(Classes classes, ConfigFields& fields,
                             std::vector<ConfigRefusal>& refusals) {
  const std::optional<std::string> architecture = ReadArchitecture(fields);
  const std::optional<std::string> model_type = fields.String("model_type");
  if (!fields.status().ok()) return nullptr;
  if (!architecture.has_value() && !model_type.has_value()) {
    fields.Invalid("architectures", fields.IsNull("architectures") ? "null" : "missing",
                   "a list of one architecture, such as [\"LlamaForCausalLM\"]");
    return nullptr;
  }
  const ConfigClass* by_type =
      model_type.has_value() ? FindClass(classes, &ConfigClass::model_type, *model_type) : nullptr;
  if (!architecture.has_value()) {
    if (by_type == nullptr) {
      fields.Unsupported("model_type", QuoteForMessage(*model_type), kKnownFamilies);
    }
    return by_type;
  }
  const ConfigClass* by_name = FindClass(classes, &ConfigClass::architecture, *architecture);
  if (by_name == nullptr) {
    fields.Unsupported("architectures[0]", QuoteForMessage(*architecture), kKnownFamilies);
    return nullptr;
  }
  if (model_type.has_value() && by_type != by_name) {
    fields.Invalid("model_type", QuoteForMessage(*model_type),
                   absl::StrCat(QuoteForMessage(by_name->model_type), ", which ", *architecture,
                                " in architectures is: engines differ in which of the two counts"));
    return nullptr;
  }
  if (!model_type.has_value()) {
    refusals.push_back(
        {"model_type",
         absl::StrCat("model_type is ", fields.IsNull("model_type") ? "null" : "missing",
                      "; expected ", QuoteForMessage(by_name->model_type),
                      ", by which transformers finds ", by_name->name),
         ConfigRefusal::Mend::kAdd, JsonValue(std::string(by_name->model_type))});
  }
  return by_name;
}

// Returns what the weights are said to be. Engines give the name to PyTorch, and what it does not
// know is an error there.
std::optional<DType> ReadDType(ConfigFields& fields, const ConfigClass& config_class,
                               std::vector<ConfigRefusal>& refusals) {
  const absl::string_view field = fields.Value("dtype") != nullptr ? "dtype" : "torch_dtype";
  const JsonValue* value = fields.Value(field);
  if (value == nullptr || value->AsString() == nullptr) return std::nullopt;
  const std::string& name = *value->AsString();
  constexpr absl::string_view kKnown[] = {"float16",         "half",
                                          "bfloat16",        "float32",
                                          "float",           "float64",
                                          "double",          "float8_e4m3fn",
                                          "float8_e5m2",     "float8_e4m3fnuz",
                                          "float8_e5m2fnuz", "int8",
                                          "uint8",           "int16",
                                          "int32",           "int64"};
  if (!absl::c_linear_search(kKnown, name)) {
    refusals.push_back({std::string(field),
                        RefusalText(config_class, field, QuoteForMessage(name),
                                    "\"float16\", \"bfloat16\" or \"float32\""),
                        ConfigRefusal::Mend::kLeaveOut});
  }
  const absl::string_view dtype = absl::StripPrefix(name, "torch.");
  if (dtype == "float16" || dtype == "half") return DType::kF16;
  if (dtype == "bfloat16") return DType::kBF16;
  if (dtype == "float32" || dtype == "float") return DType::kF32;
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

void ReadHeads(ConfigFields& fields, const ConfigClass& config_class, ModelConfig& config) {
  config.num_attention_heads = fields.RequiredInteger("num_attention_heads", 1, kMaxHeads);
  const int64_t heads = config.num_attention_heads;
  const std::optional<int64_t> kv_heads = fields.Integer("num_key_value_heads", 1, kMaxHeads);
  std::optional<int64_t> head_dim = fields.Integer("head_dim", 2, kMaxHeadDim);
  if (!fields.status().ok()) return;
  if (!head_dim.has_value()) head_dim = config_class.head_dim;
  // A null means what the class makes of it; if the class refuses it, the field counts as left out.
  const bool refused = absl::c_any_of(config.refusals, [](const ConfigRefusal& refusal) {
    return refusal.field == "num_key_value_heads";
  });
  const bool as_heads = fields.IsNull("num_key_value_heads") && !refused;
  const int64_t left_out = as_heads ? heads : config_class.num_key_value_heads.value_or(heads);
  config.num_key_value_heads = kv_heads.value_or(left_out);
  if (heads % config.num_key_value_heads != 0) {
    fields.Invalid("num_key_value_heads",
                   kv_heads.has_value()
                       ? absl::StrCat(*kv_heads)
                       : absl::StrCat("missing, which means ", left_out, " in ", config_class.name),
                   absl::StrCat("a divisor of num_attention_heads, ", heads));
  }
  const bool multiple = config.hidden_size % heads == 0;
  if (!head_dim.has_value() && !multiple) {
    fields.Invalid(
        "hidden_size", absl::StrCat(config.hidden_size),
        absl::StrCat("a multiple of num_attention_heads, ", heads, ", or a head_dim of its own"));
  } else if (!multiple && config_class.whole_heads) {
    config.refusals.push_back(
        {"hidden_size", RefusalText(config_class, "hidden_size", absl::StrCat(config.hidden_size),
                                    absl::StrCat("a multiple of num_attention_heads, ", heads))});
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

// Checks that padding is a row of the embeddings, as PyTorch wants it, counted from either end.
void CheckPadToken(const ConfigFields& fields, ModelConfig& config) {
  const JsonValue* id = fields.Value("pad_token_id");
  if (id == nullptr || !id->AsDouble().has_value()) return;
  const auto rows = static_cast<double>(config.vocab_size);
  if (*id->AsDouble() >= -rows && *id->AsDouble() < rows) return;
  ConfigRefusal refusal{
      "pad_token_id",
      absl::StrCat("pad_token_id is ", id->Describe(), "; expected null or ",
                   *id->AsDouble() < 0 ? "at least -" : "less than ", config.vocab_size,
                   ", the vocabulary's size, or transformers' ", config.architecture,
                   " refuses it"),
      ConfigRefusal::Mend::kReplace};
  refusal.by_model = true;
  config.refusals.push_back(std::move(refusal));
}

void ReadActivation(ConfigFields& fields, const ConfigClass& config_class, ModelConfig& config) {
  const absl::string_view field = config_class.activation_field;
  if (field.empty()) return;
  config.activation = fields.String(field).value_or(std::string(config_class.activation));
  if (config.activation == "swish") config.activation = "silu";
  if (config.activation == config_class.activation) return;
  fields.Unsupported(field, QuoteForMessage(config.activation),
                     QuoteForMessage(config_class.activation));
}

// Checks members that change what a model computes in ways that do not exist here.
void CheckOthers(ConfigFields& fields) {
  for (const absl::string_view field : {"per_layer_config", "configuration_files"}) {
    if (const JsonValue* value = fields.Value(field)) {
      fields.Unsupported(field, value->Describe(), "one config for all layers, in this file");
    }
  }
}

void Set(absl::string_view name, JsonValue value, JsonValue::Object& object) {
  for (JsonValue::Member& member : object) {
    if (member.first != name) continue;
    member.second = std::move(value);
    return;
  }
  object.emplace_back(std::string(name), std::move(value));
}

}  // namespace

absl::StatusOr<JsonValue> ParseConfigJson(absl::string_view source, absl::string_view json) {
  JsonLimits limits;
  limits.like_python = true;
  absl::StatusOr<JsonValue> document = ParseJson(source, json, limits);
  if (!document.ok() || document->AsObject() != nullptr) return document;
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": is ", document->Describe(), "; expected an object"));
}

absl::StatusOr<ModelConfig> ParseModelConfig(absl::Span<const ConfigClass* const> classes,
                                             absl::string_view source, absl::string_view json) {
  const auto document = ParseConfigJson(source, json);
  if (!document.ok()) return document.status();
  ConfigFields fields(source, "", *document);
  ModelConfig config;
  config.source = std::string(source);
  const ConfigClass* const config_class = ReadClass(classes, fields, config.refusals);
  if (config_class == nullptr) return fields.status();
  config.architecture = std::string(config_class->architecture);
  config.model_type = std::string(config_class->model_type);
  for (ConfigRefusal& refusal : CheckConfigTypes(*config_class, *document)) {
    config.refusals.push_back(std::move(refusal));
  }
  CheckOthers(fields);
  config.hidden_size = fields.RequiredInteger("hidden_size", 1, kMaxWidth);
  if (const absl::string_view field = config_class->intermediate_size_field; !field.empty()) {
    config.intermediate_size = fields.RequiredInteger(field, 1, kMaxWidth);
  }
  config.num_hidden_layers = fields.RequiredInteger("num_hidden_layers", 1, kMaxLayers);
  ReadHeads(fields, *config_class, config);
  config.vocab_size = fields.RequiredInteger("vocab_size", 1, kMaxVocabulary);
  CheckPadToken(fields, config);
  config.rms_norm_eps = config_class->epsilon;
  if (!config_class->epsilon_field.empty()) {
    config.rms_norm_eps =
        fields.Number(config_class->epsilon_field, 0, 1).value_or(config_class->epsilon);
  }
  ReadActivation(fields, *config_class, config);
  if (config_class->attention_bias_by_config) {
    config.attention_bias = fields.Bool("attention_bias").value_or(false);
  }
  if (config_class->mlp_bias_by_config) {
    config.mlp_bias = fields.Bool("mlp_bias").value_or(false);
  }
  config.tie_word_embeddings =
      fields.Bool("tie_word_embeddings").value_or(config_class->tie_word_embeddings);
  config.max_position_embeddings = fields.Integer("max_position_embeddings", 1, kMaxPositions);
  const int64_t positions =
      config.max_position_embeddings.value_or(config_class->max_position_embeddings);
  SlidingWindows windows;
  if (config_class->layer_types_say_windows) {
    windows = ReadWindows(*config_class, config.num_hidden_layers, config.head_dim, fields,
                          config.refusals);
  }
  config.sliding_window = windows.size;
  config.sliding_layers = std::move(windows.layers);
  config.dtype = ReadDType(fields, *config_class, config.refusals);
  config.quantization = ReadQuantization(source, fields);
  if (!fields.status().ok()) return fields.status();

  if (config_class->has_rope) {
    auto ropes =
        ReadRopes(source, *config_class, positions, config.head_dim, fields, config.refusals);
    if (!ropes.ok()) return ropes.status();
    config.rope = std::move(ropes->global);
    config.local_rope = std::move(ropes->local);
  }
  if (config_class->read_own != nullptr) config_class->read_own(*config_class, fields, config);
  if (!fields.status().ok()) return fields.status();
  return config;
}

void MendConfig(const ModelConfig& config, JsonValue::Object& object) {
  for (const ConfigRefusal& refusal : config.refusals) {
    if (refusal.mend == ConfigRefusal::Mend::kReplace ||
        refusal.mend == ConfigRefusal::Mend::kAdd) {
      Set(refusal.field, refusal.replacement, object);
    } else if (refusal.mend == ConfigRefusal::Mend::kLeaveOut) {
      object.erase(std::remove_if(object.begin(), object.end(),
                                  [&](const JsonValue::Member& member) {
                                    return member.first == refusal.field;
                                  }),
                   object.end());
    }
  }
  // Some engines go by this name alone.
  Set("architectures", JsonValue(JsonValue::Array{JsonValue(config.architecture)}), object);
  if (config.own_head) Set("tie_word_embeddings", JsonValue(false), object);
}

}  // namespace salient
