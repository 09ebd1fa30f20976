#include "core/cost/model_cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/config/model/model_config.h"
#include "core/config/quantization_config.h"
#include "core/cost/speed_probe.h"
#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/parallel/executor.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/layout.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "tests/core/cost/cost_example.h"
#include "tests/core/model/small_model.h"
#include "tests/support/planned_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::CostExample;
using testing::Gemm;
using ::testing::HasSubstr;
using testing::Must;
using testing::SmallModel;
using testing::TestsDirectory;

constexpr Method kRtn{
    ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
constexpr Method kAwq{ScaleChoice::kAwq, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};

// CostExample() has these.
constexpr double kAttentionParameters = 512 * (512 + 256 + 256 + 512);
constexpr double kMlpParameters = 3 * 512 * 1408;

TEST(ModelCostTest, EvaluatingIsTwoFlopAParameterAndTokenWithAttentionAndHead) {
  // 64 tokens are one tile of queries and keys: 64^2 scores of each channel, made and used.
  const double one = 3 * (2 * 64 * (kAttentionParameters + kMlpParameters) + 4 * 64 * 64 * 512.0) +
                     2 * 64 * 5000.0 * 512;
  const std::vector<int64_t> rows = {64};
  EXPECT_DOUBLE_EQ(Gemm(Must(CostOfEvaluating(testing::Planned(CostExample()), rows, 1, 1))), one);
  EXPECT_DOUBLE_EQ(Gemm(Must(CostOfEvaluating(testing::Planned(CostExample()), rows, 3, 1))),
                   3 * one);
  // A row is padded to whole tiles; a tile of queries sees the keys up to its own end.
  const std::vector<int64_t> longer = {65};
  EXPECT_DOUBLE_EQ(
      Gemm(Must(CostOfEvaluating(testing::Planned(CostExample()), longer, 1, 1))),
      3 * (2 * 128 * (kAttentionParameters + kMlpParameters) + 4 * (64 * 64 + 64 * 128) * 512.0) +
          2 * 128 * 5000.0 * 512);
}

// qkv, o and gate/up read 512 channels, whose whole Gram is kept; down reads 1408, in blocks of 256
// with a sketch of 256 rows. Of what is symmetric, 128 columns at a time, one side is multiplied.
TEST(ModelCostTest, EveryFinalistOfTheSearchIsAProductWithTheStatistics) {
  constexpr double kFullEvaluations = 6;
  QuantizeModelParams params;
  params.method = kRtn;
  const std::vector<int64_t> rows = {256};
  const double plain =
      Gemm(Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 1)));
  params.method = kAwq;
  const double search =
      Gemm(Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 1))) - plain;
  const double narrow = 512 * (1024 + 512 + 2816);
  const double wide = 1408 * 512;
  const double whole = (128 + 256 + 384 + 512) * 128.0 / 512;
  const double block = (5 * (128 + 256) * 128 + 128 * 128) / 1408.0;
  EXPECT_NEAR(search, 3 * kFullEvaluations * 2 * (narrow * whole + wide * (block + 256)),
              1e-9 * search);
  params.method.range = RangeChoice::kClip;
  const double clip =
      Gemm(Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 1))) - plain -
      search;
  // A group of 128 columns has 3 of 4 squares of 64.
  EXPECT_NEAR(clip, 3 * 20 * 2 * (narrow + wide) * 96, 1e-9 * plain);
}

TEST(ModelCostTest, ACalibrationRowIsAForwardPassAndItsGrams) {
  QuantizeModelParams params;
  const std::vector<int64_t> one = {256};
  const std::vector<int64_t> two = {256, 256};
  const double row = Gemm(Must(CostOfQuantizing(testing::Planned(CostExample()), two, params, 1))) -
                     Gemm(Must(CostOfQuantizing(testing::Planned(CostExample()), one, params, 1)));
  const double scores = 64 * (64 + 128 + 192 + 256);
  const double forward = 2 * 256 * (kAttentionParameters + kMlpParameters) + 4 * scores * 512;
  // Of 256 columns with themselves 3 of 4 squares of 128 are multiplied: in each of 3 whole Grams
  // two of those beside one pair; 1408 columns are 5.5 of those and a sketch of 256 rows.
  const double itself = 3 * 128.0 * 128;
  const double fold =
      2 * 256 * (3 * (2 * itself + 256.0 * 256) + 5 * itself + 128 * 128 + 1408 * 256.0);
  EXPECT_NEAR(row, 3 * (forward + fold), 1e-9 * row);
}

// down_proj reads 1408 channels: 1408^2 sums in f64 instead of blocks and a sketch, the same in f32
// in the loss, and one more such matrix that is factored.
TEST(ModelCostTest, GptqKeepsAndFactorsTheWholeGram) {
  QuantizeModelParams params;
  const std::vector<int64_t> rows(16, 256);
  const auto cost = [&](RoundingChoice rounding, ComputeDType compute) {
    params.method.rounding = rounding;
    params.compute = compute;
    return Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 1));
  };
  const int64_t whole = int64_t{1408} * 1408;
  const int64_t blocks = 6 * 256 * 256 + 256 * 1408;
  // Calibrating holds the sums, too, whether it or quantizing is what holds most. Where the CPU
  // does not multiply bfloat16 it is calibrating, whose weights are laid out in f32 there.
  EXPECT_GT(cost(RoundingChoice::kGptq, ComputeDType::kBF16).memory_bytes -
                cost(RoundingChoice::kNearest, ComputeDType::kBF16).memory_bytes,
            (whole - blocks) * 8);
  // A forward pass in f32 lays nothing out, so that quantizing holds most on every CPU.
  const ModelCost nearest = cost(RoundingChoice::kNearest, ComputeDType::kF32);
  const ModelCost gptq = cost(RoundingChoice::kGptq, ComputeDType::kF32);
  // The search lays its factors out in squares of 128: 66 of the whole, or 3 of each of 6 blocks
  // and 4 of its sketch.
  const int64_t squares = (66 - 6 * (3 + 4)) * 128 * 128 * (MultipliesBf16() ? 2 : 4);
  // Scratch of block rounding is in every estimate.
  const int64_t scratch = 3 * 1408 * 256 * 4 + 6 * 256 * 256 * 8;
  EXPECT_GT(gptq.memory_bytes - nearest.memory_bytes,
            (whole - blocks) * (8 + 4) + squares + whole * 4 - scratch);
  params.method.gptq.descent_sweeps = 0;
  params.method.gptq.refits = 0;
  const ModelCost feedback =
      Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 1));
  EXPECT_LT(feedback.Total().f32_flop, gptq.Total().f32_flop);
  // n^3 / 3 for each factor; for each weight n between blocks of 128 columns and 3 * 128 inside.
  const double factors = (3 * std::pow(512.0, 3) + std::pow(1408.0, 3)) / 3;
  const double narrow = 512 * (1024 + 512 + 2816);
  const double wide_weights = 1408 * 512;
  const double errors = narrow * (512 + 384) + wide_weights * (1408 + 384);
  const double rounding = feedback.stages[static_cast<size_t>(Stage::kRounding)].f32_flop;
  EXPECT_NEAR(rounding, 3 * (factors + errors), 1e-9 * rounding);

  ModelConfig wide = CostExample();
  wide.intermediate_size = 40960;
  EXPECT_TRUE(CostOfQuantizing(testing::Planned(wide), rows, QuantizeModelParams(), 1).ok());
  const absl::Status refused = CostOfQuantizing(testing::Planned(wide), rows, params, 1).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("in_features is 40960"));
}

TEST(ModelCostTest, ALimitOfErrorIsCountedAsIfEveryGroupWasAboveIt) {
  const std::vector<int64_t> rows(4, 256);
  const auto cost = [&](const StoredFormat& stored, double limit) {
    QuantizeModelParams params;
    params.method = kRtn;
    params.outputs = {stored};
    params.max_relative_error = limit;
    return Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 1));
  };
  const auto rounding = [](const ModelCost& of) {
    return of.stages[static_cast<size_t>(Stage::kRounding)].vector_flop;
  };
  constexpr double kBlock = kAttentionParameters + kMlpParameters;
  // It is twice where 8 bits are a choice, and in F16 in the end, which takes two bytes instead of
  // half of one.
  for (const auto& [stored, times] :
       {std::pair{StoredFormat{{4, 128, true}, OutputFormat::kCompressedTensors}, 2},
        std::pair{StoredFormat{{8, 128, true}, OutputFormat::kCompressedTensors}, 1},
        std::pair{StoredFormat{{4, 128, false}, OutputFormat::kAwqGemm}, 1}}) {
    const ModelCost free = cost(stored, 0);
    const ModelCost limited = cost(stored, 0.1);
    EXPECT_DOUBLE_EQ(rounding(limited), times * rounding(free));
    EXPECT_GT(static_cast<double>(limited.memory_bytes - free.memory_bytes), 0.5 * kBlock);
    EXPECT_EQ(limited.output_bytes, free.output_bytes);
  }
  // Is not rounded, so nothing is above it.
  const StoredFormat scaled{{4, 128}, OutputFormat::kScaledFp16};
  EXPECT_EQ(cost(scaled, 0.1).memory_bytes, cost(scaled, 0).memory_bytes);
  EXPECT_EQ(rounding(cost(scaled, 0.1)), rounding(cost(scaled, 0)));
}

TEST(ModelCostTest, MoreOfAnythingCostsMore) {
  const QuantizeModelParams params;
  const std::vector<int64_t> rows(16, 256);
  const ModelCost base = Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 2));
  const auto costs_more = [&](const char* what, const ModelConfig& config,
                              const std::vector<int64_t>& tokens, int concurrency) {
    const ModelCost more =
        Must(CostOfQuantizing(testing::Planned(config), tokens, params, concurrency));
    EXPECT_GE(Gemm(more), Gemm(base)) << what;
    EXPECT_GE(more.Total().vector_flop, base.Total().vector_flop) << what;
    EXPECT_GE(more.Total().bytes, base.Total().bytes) << what;
    EXPECT_GE(more.read_bytes, base.read_bytes) << what;
    EXPECT_GE(more.write_bytes, base.write_bytes) << what;
    EXPECT_GE(more.memory_bytes, base.memory_bytes) << what;
    EXPECT_GE(more.output_bytes, base.output_bytes) << what;
    EXPECT_GT(Gemm(more) + static_cast<double>(more.memory_bytes),
              Gemm(base) + static_cast<double>(base.memory_bytes))
        << what;
  };
  const std::vector<std::pair<const char*, std::function<void(ModelConfig&)>>> changes = {
      {"layers", [](ModelConfig& c) { c.num_hidden_layers = 4; }},
      {"hidden", [](ModelConfig& c) { c.hidden_size = 1024; }},
      {"intermediate", [](ModelConfig& c) { c.intermediate_size = 2816; }},
      {"heads", [](ModelConfig& c) { c.num_attention_heads = 16; }},
  };
  for (const auto& [what, change] : changes) {
    ModelConfig config = CostExample();
    change(config);
    costs_more(what, config, rows, 2);
  }
  costs_more("rows", CostExample(), std::vector<int64_t>(17, 256), 2);
  costs_more("tokens", CostExample(), std::vector<int64_t>(16, 512), 2);
  costs_more("workers", CostExample(), rows, 4);
}

// Layers are worked on one after the other.
TEST(ModelCostTest, MemoryIsABlocksNotTheModels) {
  const QuantizeModelParams params;
  const std::vector<int64_t> rows(16, 256);
  ModelConfig deep = CostExample();
  deep.num_hidden_layers = 300;
  EXPECT_EQ(Must(CostOfQuantizing(testing::Planned(deep), rows, params, 2)).memory_bytes,
            Must(CostOfQuantizing(testing::Planned(CostExample()), rows, params, 2)).memory_bytes);
  EXPECT_EQ(Must(CostOfEvaluating(testing::Planned(deep), rows, 3, 2)).memory_bytes,
            Must(CostOfEvaluating(testing::Planned(CostExample()), rows, 3, 2)).memory_bytes);
}

// A weight takes two bytes as it is stored, four decoded.
TEST(ModelCostTest, DecodedModelsHoldAndCostMore) {
  const std::vector<int64_t> rows = {64};
  const auto evaluate = [&](const ModelConfig& config, int models) {
    return Must(CostOfEvaluating(testing::Planned(config), rows, models, 1));
  };
  ModelConfig quantized = CostExample();
  quantized.quantization = QuantizationConfig{"awq", 4, 128, true, "gemm"};
  EXPECT_GT(evaluate(quantized, 1).memory_bytes, evaluate(CostExample(), 1).memory_bytes);
  EXPECT_GT(evaluate(quantized, 1).Total().vector_flop,
            evaluate(CostExample(), 1).Total().vector_flop);
  EXPECT_GT(evaluate(quantized, 2).memory_bytes, evaluate(CostExample(), 2).memory_bytes);
  const double block = kAttentionParameters + kMlpParameters;
  EXPECT_GE(static_cast<double>(evaluate(quantized, 3).memory_bytes), (2 + 4 + 4) * block);
  EXPECT_GE(static_cast<double>(evaluate(CostExample(), 3).memory_bytes), (2 + 2 + 4) * block);
  ModelConfig wide = CostExample();
  wide.dtype = DType::kF32;
  EXPECT_GE(static_cast<double>(evaluate(wide, 1).memory_bytes), 4 * block);
}

// A worker that decodes a Linear holds it as it is stored, two or four bytes a weight, and its
// codes.
TEST(ModelCostTest, DecodingHoldsWeightsAsTheyAreStored) {
  ModelConfig narrow = CostExample();
  narrow.intermediate_size = 14080;  // Its Linears are wide, and it has little else.
  narrow.vocab_size = 64;
  narrow.dtype = DType::kF16;
  ModelConfig wide = narrow;
  wide.dtype = DType::kF32;
  const std::vector<int64_t> rows = {64};
  const auto memory = [&](const ModelConfig& config) {
    return static_cast<double>(
        Must(CostOfEvaluating(testing::Planned(config), rows, /*plain=*/1, /*decoded=*/1, 7))
            .memory_bytes);
  };
  constexpr double kWidest = 512 * 14080;
  constexpr double kBlock = kAttentionParameters + 3 * kWidest;
  // More than the plain model itself grows by, what an allocator keeps included.
  EXPECT_GT(memory(wide) - memory(narrow), 1.15 * (2 * kBlock + 7 * kWidest));
}

class ByteCounter final : public QuantizedModelSink {
 public:
  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> tensors) override {
    for (const NamedTensor& tensor : tensors) bytes += static_cast<int64_t>(tensor.data.size());
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& /*report*/) override {
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& /*module*/,
                    const std::string& /*why*/) override {
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }
  int64_t bytes = 0;
};

// Returns the bytes of all tensors in the files that a run's result consists of.
int64_t PlannedBytes(const std::string& directory, const ModelConfig& config,
                     const QuantizeModelParams& params) {
  QuantizedCheckpointParams checkpoint;
  checkpoint.stored = params.outputs[0];
  const std::string json = Must(ReadTextFile(directory + "/config.json", 1 << 20));
  int64_t bytes = 0;
  for (const QuantizedFile& file :
       Must(PlanQuantizedCheckpoint(testing::Planned(config), json, checkpoint)).files) {
    for (const SafetensorsLayout::Place& place : file.layout.places) {
      bytes += place.end - place.begin;
    }
  }
  return bytes;
}

TEST(ModelCostTest, OutputBytesAreThoseThatARunEmits) {
  LimitThreadToItself();
  testing::ThreadExecutor executor(2);
  const std::string work = ::testing::TempDir() + "model_cost_test";
  struct Case {
    const char* model;
    WeightFormat format;
    OutputFormat output;
    int64_t outer;  // These elements are outside the blocks.
    ActivationFormat activations = ActivationFormat::kNone;
  };
  for (const Case& c :
       {Case{"data/pocket-llama", {4, 128}, OutputFormat::kAwqGemm, 2048 * 256 + 256},
        Case{"data/pocket-llama", {4, -1}, OutputFormat::kAwqGemm, 2048 * 256 + 256},
        Case{"data/pocket-llama", {4, 768}, OutputFormat::kAwqGemm, 2048 * 256 + 256},
        Case{"data/pocket-llama", {3, 64}, OutputFormat::kDequantizedFp16, 2048 * 256 + 256},
        Case{"data/pocket-llama", {3, 64, true}, OutputFormat::kGptq, 2048 * 256 + 256},
        Case{"data/pocket-llama", {8, 64}, OutputFormat::kGptqV2, 2048 * 256 + 256},
        Case{"data/pocket-llama", {4, 64}, OutputFormat::kCompressedTensors, 2048 * 256 + 256},
        Case{"data/pocket-llama",
             {8, -1, true},
             OutputFormat::kIntQuantized,
             2048 * 256 + 256,
             ActivationFormat::kDynamicToken},
        Case{"data/pocket-llama", {4, 64}, OutputFormat::kScaledFp16, 2048 * 256 + 256},
        Case{"golden/forward/all_together", {4, 8}, OutputFormat::kAwqGemm, 2 * 40 * 32 + 32}}) {
    const SmallModel model(TestsDirectory() + c.model);
    std::filesystem::create_directories(work);
    QuantizeModelParams params;
    params.method = kRtn;
    params.outputs = {{c.format, c.output, c.activations}};
    params.work_directory = work;
    ByteCounter counter;
    const std::vector<std::vector<int64_t>> rows = {{1, 2, 3}};
    const absl::Status status =
        QuantizeModel(model.checkpoint, model.plan, rows, params, counter, executor);
    ASSERT_TRUE(status.ok()) << status;
    std::filesystem::remove_all(work);
    const std::vector<int64_t> lengths = {3};
    const ModelCost cost = Must(CostOfQuantizing(model.plan, lengths, params, 1));
    EXPECT_EQ(cost.output_bytes, counter.bytes + 2 * c.outer)
        << c.model << ", groups of " << c.format.group_size;
    EXPECT_EQ(cost.output_bytes, PlannedBytes(TestsDirectory() + c.model, model.config, params));
  }
}

TEST(ModelCostTest, SecondsAreAmountsOverRates) {
  ModelCost cost;
  cost.stages[static_cast<size_t>(Stage::kForward)] = {300, 60, 10, 1000};
  cost.stages[static_cast<size_t>(Stage::kRounding)] = {0, 40, 20, 1000};
  cost.read_bytes = 6;
  cost.write_bytes = 2;
  const MachineSpeed speed = {30, 10, 5, 4};
  EXPECT_DOUBLE_EQ(SecondsOf(cost, speed, 1), 10 + 10 + 6 + 2);
  EXPECT_DOUBLE_EQ(SecondsOf(cost, speed, 2), 5 + 5 + 3 + 2);  // Bytes come through one door.
  cost.parallel_share = 0.25;                                  // The model is narrow.
  EXPECT_DOUBLE_EQ(SecondsOf(cost, speed, 1), 10 + 10 + 6 + 2);
  EXPECT_DOUBLE_EQ(SecondsOf(cost, speed, 2), 8 + 8 + 4.8 + 2);
  EXPECT_EQ(SecondsOf({}, speed, 1), 0);
  EXPECT_EQ(SecondsOf(cost, {}, 1), 0);  // Nobody measured this machine.
}

TEST(SpeedProbeTest, DoesAsMuchEachTime) {
  LimitThreadToItself();
  SpeedProbe probe;
  const double bf16 = probe.Bf16();
  const double f32 = probe.F32();
  const double vector = probe.Vector();
  EXPECT_GT(bf16, 1e8);
  EXPECT_GT(f32, 1e8);
  EXPECT_GT(vector, 1e6);
  EXPECT_EQ(probe.Bf16(), bf16);
  EXPECT_EQ(probe.F32(), f32);
  EXPECT_EQ(probe.Vector(), vector);
  EXPECT_EQ(probe.Copy(), 512 * 10'000 * 4);
}

}  // namespace
}  // namespace salient
