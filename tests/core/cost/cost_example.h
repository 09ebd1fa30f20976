// Has a model whose costs are counted by hand.
#ifndef SALIENT_TESTS_CORE_COST_COST_EXAMPLE_H_
#define SALIENT_TESTS_CORE_COST_COST_EXAMPLE_H_

#include "core/config/model/model_config.h"
#include "core/cost/model_cost.h"
#include "core/cost/work_count.h"

namespace salient::testing {

inline ModelConfig CostExample() {
  ModelConfig config;
  config.source = "config.json";
  config.architecture = "LlamaForCausalLM";
  config.hidden_size = 512;
  config.intermediate_size = 1408;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 4;
  config.head_dim = 64;
  config.vocab_size = 5000;
  config.tie_word_embeddings = true;
  return config;
}

// Counts matrix products, whatever their dtype.
inline double Gemm(const ModelCost& cost) {
  const Work work = cost.Total();
  return work.bf16_flop + work.f32_flop;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_COST_COST_EXAMPLE_H_
