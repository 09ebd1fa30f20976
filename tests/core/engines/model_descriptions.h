// Describes models of a known shape for tests.
#ifndef SALIENT_TESTS_CORE_ENGINES_MODEL_DESCRIPTIONS_H_
#define SALIENT_TESTS_CORE_ENGINES_MODEL_DESCRIPTIONS_H_

#include <string>

#include "core/config/model/model_config.h"
#include "core/engines/describe_model.h"
#include "core/engines/model_description.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient::testing {

// Llama-3-8B's widths, so that every kernel's shape rule holds; two blocks of it.
inline ModelConfig LargeConfig() {
  ModelConfig config;
  config.source = "config.json";
  config.architecture = "LlamaForCausalLM";
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 32;
  config.num_key_value_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 1024;
  return config;
}

inline std::string MethodOf(OutputFormat output) {
  switch (output) {
    case OutputFormat::kAwqGemm:
      return "awq";
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
      return "gptq";
    case OutputFormat::kCompressedTensors:
    case OutputFormat::kIntQuantized:
      return "compressed-tensors";
    default:
      return "";
  }
}

// Describes every Linear of every block in this format.
inline ModelDescription Describe(const ModelConfig& config, const StoredFormat& stored) {
  ModelDescription model;
  model.architecture = config.architecture;
  model.quant_method = MethodOf(stored.output);
  model.stored = stored;
  model.num_attention_heads = config.num_attention_heads;
  model.num_key_value_heads = config.num_key_value_heads;
  model.head_dim = config.head_dim;
  model.version = "gemm";
  model.config_groups = 1;
  model.linears = DescribeLinears(*PlanModel(config));
  for (LinearDescription& linear : model.linears) {
    linear.quantized = !model.quant_method.empty();
    linear.format = stored.format;
  }
  return model;
}

// Activations are dynamic where the layout has 8 bits for them.
inline StoredFormat Stored(OutputFormat output, int bits, int64_t group_size, bool symmetric) {
  const bool rounds_inputs = output == OutputFormat::kIntQuantized;
  return {{bits, group_size, symmetric, DType::kF16},
          output,
          rounds_inputs ? ActivationFormat::kDynamicToken : ActivationFormat::kNone};
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_ENGINES_MODEL_DESCRIPTIONS_H_
