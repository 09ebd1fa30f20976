// The families of models that are known: each has a file of its own, which says what its config
// means and plans its models.
#ifndef SALIENT_CORE_MODEL_FAMILIES_FAMILY_H_
#define SALIENT_CORE_MODEL_FAMILIES_FAMILY_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/model.h"

namespace salient {

struct Family {
  ConfigClass config_class;
  Model (*plan)(const ModelConfig& config) = nullptr;

  absl::string_view architecture() const { return config_class.architecture; }
};

// Returns all that are known. The storage is static.
absl::Span<const Family> Families();

// Reads a config.json of a known family. Its errors are those of ParseModelConfig with classes.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view source, absl::string_view json);

// Plans the model that `config` describes, by its family. UNIMPLEMENTED naming the config's file,
// its architecture and where those that we know are listed.
absl::StatusOr<Model> PlanModel(const ModelConfig& config);

Family LlamaFamily();  // Llama 1 to 3, Vicuna and everything else that calls itself one.
Family MistralFamily();
Family Qwen2Family();
Family OptFamily();
Family Qwen3Family();
Family Phi3Family();
Family Gemma2Family();
Family Gemma3Family();
Family Ministral3Family();
Family GraniteFamily();
Family Olmo2Family();
Family Olmo3Family();
Family SmolLm3Family();
Family Lfm2Family();

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FAMILIES_FAMILY_H_
