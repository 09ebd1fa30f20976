// CPU seconds of a decoder block's forward pass on one calibration row, beside bare oneDNN doing
// the block's seven products, whole and with the weights laid out before, on the same thread in
// turns. What attention multiplies is in the pass and not in the products.
//
// Counters: block_s and products_s, CPU seconds of one row; over_products, their ratio (1 is the
// floor); prepare_s, laying the weights out, once a block; GFLOP, those of the products. The label
// is the dtype of the products, F32 where the CPU does not multiply BF16.
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/kernels/forward_kernels.h"
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
#include "tests/bench/floor_dtype.h"
#include "tests/bench/thread_cpu_seconds.h"

namespace salient {
namespace {

enum ShapeName { kTiny, kPocketLlama, kQwen2HalfB, kLlama3OneB, kLlama3EightB };

ModelConfig Config(int64_t shape) {
  ModelConfig config;
  config.source = "bench";
  config.architecture = "LlamaForCausalLM";
  config.num_hidden_layers = 1;
  config.vocab_size = 16;
  config.rms_norm_eps = 1e-5;
  const auto set = [&](int64_t hidden, int64_t inner, int64_t heads, int64_t kv_heads,
                       int64_t head_dim) {
    config.hidden_size = hidden;
    config.intermediate_size = inner;
    config.num_attention_heads = heads;
    config.num_key_value_heads = kv_heads;
    config.head_dim = head_dim;
  };
  switch (shape) {
    case kTiny:
      set(64, 128, 4, 2, 16);
      break;
    case kPocketLlama:
      set(256, 704, 8, 4, 32);
      break;
    case kQwen2HalfB:
      set(896, 4864, 14, 2, 64);
      break;
    case kLlama3OneB:
      set(2048, 8192, 32, 8, 64);
      break;
    default:
      set(4096, 14336, 32, 8, 128);
  }
  return config;
}

std::vector<uint16_t> RandomBf16(uint64_t seed, int64_t count, float deviation) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> some(1 << 16);
  for (float& value : some) value = normal(random);
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = some[(i * 7919) % some.size()];
  std::vector<uint16_t> bits(values.size());
  RoundToBf16(values.data(), count, bits.data());
  return bits;
}

BlockWeights RandomBlock(const Model& model) {
  BlockWeights block;
  const BlockPlan& plan = model.blocks.front();
  for (const VectorPlan& vector : plan.vectors) {
    block.vectors.emplace_back().values.assign(
        static_cast<size_t>(ElementsOf({vector.name, vector.shape})), 1.0f);
  }
  for (size_t i = 0; i < plan.linears.size(); ++i) {
    const LinearShape& shape = plan.linears[i].shape;
    StoredLinear& linear = block.linears.emplace_back();
    linear.dtype = DType::kBF16;
    linear.out_features = shape.out_features;
    linear.in_features = shape.in_features;
    const std::vector<uint16_t> bits = RandomBf16(i, shape.out_features * shape.in_features, 0.02f);
    const auto* bytes = reinterpret_cast<const std::byte*>(bits.data());
    linear.weight.assign(bytes, bytes + 2 * bits.size());
  }
  return block;
}

// Returns a Linear's product, whole, of factors that are laid out in the floor's dtype before.
std::function<void()> BareProduct(const StoredLinear& linear, int64_t tokens) {
  const int64_t n = linear.out_features;
  const int64_t k = linear.in_features;
  const auto* weight = reinterpret_cast<const uint16_t*>(linear.weight.data());
  auto input = std::make_shared<std::vector<uint16_t>>(RandomBf16(99, tokens * k, 1));
  auto output = std::make_shared<Matrix>(tokens, n);
  if (bench::FloorDType(DType::kBF16) == DType::kBF16) {
    auto factor = std::make_shared<Bf16Factor>(*Bf16Factor::Create(weight, n, k, k));
    return [=] {
      benchmark::DoNotOptimize(factor->Multiply(tokens, input->data(), k, 0, output->data(), n));
    };
  }
  auto wide_input = std::make_shared<Matrix>(tokens, k);
  auto wide_weight = std::make_shared<Matrix>(n, k);
  WidenBf16(input->data(), tokens * k, wide_input->data());
  WidenBf16(weight, n * k, wide_weight->data());
  return [=] {
    benchmark::DoNotOptimize(Gemm(Op::kPlain, Op::kTransposed, tokens, n, k, wide_input->data(), k,
                                  wide_weight->data(), k, 0, output->data(), n));
  };
}

// Holds the products of the block's Linears.
struct BareProducts {
  BareProducts(const BlockWeights& block, int64_t tokens) {
    for (const StoredLinear& linear : block.linears) {
      products.push_back(BareProduct(linear, tokens));
      flop += 2.0 * static_cast<double>(tokens * linear.out_features * linear.in_features);
    }
  }

  void Run() {
    for (const std::function<void()>& product : products) product();
  }

  double flop = 0;
  std::vector<std::function<void()>> products;
};

void BM_Forward(benchmark::State& state) {
  LimitThreadToItself();
  const ModelConfig config = Config(state.range(0));
  const int64_t tokens = state.range(1);
  const Model model = *PlanModel(config);
  const BlockWeights block = RandomBlock(model);
  SerialExecutor executor;
  const BlockForward forward(model, ComputeDType::kBF16, tokens);
  std::unique_ptr<PreparedBlock> prepared;
  const double prepare = ThreadCpuSeconds(
      [&] { prepared = std::make_unique<PreparedBlock>(*forward.Prepare(block, executor)); });
  BareProducts bare(block, tokens);
  state.SetLabel(std::string(Name(bench::FloorDType(DType::kBF16))));
  const auto run = [&] {
    Matrix hidden(tokens, config.hidden_size);
    for (int64_t i = 0; i < tokens * config.hidden_size; ++i) {
      hidden.data()[i] = static_cast<float>(i % 17) - 8;
    }
    return ThreadCpuSeconds([&] {
      benchmark::DoNotOptimize(forward.Run(*prepared, std::move(hidden), IgnoreGroup, executor));
    });
  };
  run();  // It makes the primitives.
  bare.Run();
  double block_seconds = 0;
  double products_seconds = 0;
  for (auto _ : state) {
    products_seconds += ThreadCpuSeconds([&] { bare.Run(); });
    const double seconds = run();
    block_seconds += seconds;
    state.SetIterationTime(seconds);
  }
  const double n = static_cast<double>(state.iterations());
  state.counters["prepare_s"] = prepare;
  state.counters["block_s"] = block_seconds / n;
  state.counters["products_s"] = products_seconds / n;
  state.counters["over_products"] = block_seconds / products_seconds;
  state.counters["GFLOP"] = bare.flop / 1e9;
}

BENCHMARK(BM_Forward)
    ->ArgNames({"shape", "tokens"})
    ->Args({kTiny, 70})
    ->Args({kPocketLlama, 256})
    ->Args({kQwen2HalfB, 512})
    ->Args({kLlama3OneB, 512})
    ->Args({kLlama3EightB, 512})
    ->UseManualTime()
    ->Unit(benchmark::kSecond)
    ->Iterations(4);

}  // namespace
}  // namespace salient

BENCHMARK_MAIN();
