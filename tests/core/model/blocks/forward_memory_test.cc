// Measures what a forward pass really allocates, counted where memory is handed out.
#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "core/config/model/model_config.h"
#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/forward.h"
#include "core/model/families/family.h"
#include "core/model/group_observer.h"
#include "core/model/model.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "tests/support/counted_allocation.h"

namespace salient {
namespace {

ModelConfig Config(int64_t hidden, int64_t inner, int64_t heads, int64_t kv_heads) {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.hidden_size = hidden;
  config.intermediate_size = inner;
  config.num_hidden_layers = 1;
  config.num_attention_heads = heads;
  config.num_key_value_heads = kv_heads;
  config.head_dim = 32;
  config.vocab_size = 10;
  config.rms_norm_eps = 1e-5;
  return config;
}

// A block of zeros of the right shapes.
BlockWeights Zeros(const Model& model) {
  const BlockPlan& plan = model.blocks.front();
  BlockWeights block;
  for (const VectorPlan& vector : plan.vectors) {
    block.vectors.emplace_back().values.resize(
        static_cast<size_t>(ElementsOf({vector.name, vector.shape})));
  }
  for (const LinearPlan& plan_of_linear : plan.linears) {
    const LinearShape& shape = plan_of_linear.shape;
    StoredLinear& linear = block.linears.emplace_back();
    linear.dtype = DType::kF16;
    linear.out_features = shape.out_features;
    linear.in_features = shape.in_features;
    linear.weight.resize(static_cast<size_t>(2 * shape.out_features * shape.in_features));
  }
  return block;
}

// Property: MemoryBytes bounds what is held, and not by much.
void ExpectHonest(const ModelConfig& config, ComputeDType compute, int64_t tokens) {
  LimitThreadToItself();
  const Model model = *PlanModel(config);
  const BlockWeights block = Zeros(model);
  SerialExecutor executor;
  const auto run = [&] {
    const BlockForward forward(model, compute, tokens);
    Matrix hidden(tokens, config.hidden_size);
    EXPECT_TRUE(
        forward.Run(*forward.Prepare(block, executor), std::move(hidden), IgnoreGroup, executor)
            .ok());
  };
  run();  // The first time, the matrix library makes its kernels, which it keeps.
  const int64_t before = testing::live_bytes;
  testing::peak_bytes = testing::live_bytes;
  run();
  const int64_t held = testing::peak_bytes - before;
  const int64_t promised =
      BlockForward::MemoryBytes(model, model.blocks[0], compute, tokens, executor.Concurrency()) +
      PreparedBlock::MemoryBytes(model.blocks[0], compute);
  EXPECT_LE(held, promised);
  EXPECT_GE(held, promised / 2);
}

TEST(ForwardMemoryTest, IsWhatWasPromised) {
  for (const ComputeDType compute : {ComputeDType::kF32, ComputeDType::kBF16}) {
    ExpectHonest(Config(256, 704, 8, 2), compute, 500);
    ExpectHonest(Config(256, 256, 24, 24), compute, 500);  // Attention is the wider half.
    ExpectHonest(Config(512, 128, 2, 1), compute, 130);
    ExpectHonest(Config(64, 128, 2, 1), compute, 4000);  // All scores would be 128 MB.
  }
}

}  // namespace
}  // namespace salient
