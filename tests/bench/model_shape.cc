#include "tests/bench/model_shape.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient::bench {
namespace {

struct KnownShape {
  const char* name;
  const char* json;
};

constexpr KnownShape kKnownShapes[] = {
    {"llama3-8b", R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
      "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
      "max_position_embeddings": 8192, "tie_word_embeddings": false})"},
    {"llama3-1b", R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
      "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
      "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
      "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                       "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
      "max_position_embeddings": 131072, "tie_word_embeddings": true})"},
    {"qwen2-0.5b", R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
      "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
      "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
      "hidden_act": "silu", "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
      "max_position_embeddings": 32768, "use_sliding_window": false,
      "tie_word_embeddings": true})"},
    {"tiny", R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "hidden_size": 256, "intermediate_size": 1280, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
      "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
      "max_position_embeddings": 2048, "tie_word_embeddings": true})"},
};

std::string KnownNames() {
  std::string names;
  for (const KnownShape& known : kKnownShapes) absl::StrAppend(&names, known.name, ", ");
  return names;
}

struct NamedJson {
  std::string name;
  std::string json;
};

absl::StatusOr<NamedJson> JsonOf(const std::string& shape) {
  for (const KnownShape& known : kKnownShapes) {
    if (shape == known.name) return NamedJson{shape, known.json};
  }
  std::ifstream file(shape, std::ios::binary);
  if (!file || std::filesystem::is_directory(shape)) {
    return absl::NotFoundError(absl::StrCat("--shape ", shape, " is no file; expected ",
                                            KnownNames(), "or the path of a config.json"));
  }
  const std::string parent = std::filesystem::absolute(shape).parent_path().filename().string();
  return NamedJson{parent.empty() ? "model" : parent,
                   std::string(std::istreambuf_iterator<char>(file), {})};
}

void Set(JsonValue::Object& object, const std::string& key, JsonValue value) {
  const auto same = [&](const JsonValue::Member& member) { return member.first == key; };
  object.erase(std::remove_if(object.begin(), object.end(), same), object.end());
  object.emplace_back(key, std::move(value));
}

}  // namespace

absl::StatusOr<ModelShape> ShapeOf(const std::string& shape, int64_t layers) {
  absl::StatusOr<NamedJson> named = JsonOf(shape);
  if (!named.ok()) return named.status();
  absl::StatusOr<JsonValue> json = ParseJson(shape, named->json);
  if (!json.ok()) return json.status();
  JsonValue::Object* object = json->AsObject();
  if (object == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(shape, ": expected a JSON object"));
  }
  ModelShape result;
  result.name = named->name;
  if (layers > 0) {
    Set(*object, "num_hidden_layers", JsonValue(layers));
    absl::StrAppend(&result.name, "-", layers, "layers");
  }
  Set(*object, "torch_dtype", JsonValue(std::string("bfloat16")));
  const auto quantized = [](const JsonValue::Member& m) {
    return m.first == "quantization_config";
  };
  object->erase(std::remove_if(object->begin(), object->end(), quantized), object->end());
  result.config_json = JsonText(*json);
  absl::StatusOr<ModelConfig> config = ParseModelConfig(shape, result.config_json);
  if (!config.ok()) return config.status();
  result.config = *std::move(config);
  if (auto family = PlanModel(result.config); !family.ok()) return family.status();
  return result;
}

}  // namespace salient::bench
