// Tests rounding that needs the whole X^T X, in a model whose down_proj is wider than what is kept
// of it otherwise.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/quantize/quantize_model.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/small_model.h"
#include "tests/support/random_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

constexpr char kConfig[] = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 64, "intermediate_size": 1088, "num_hidden_layers": 1, "vocab_size": 40,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "hidden_act": "silu", "max_position_embeddings": 128,
    "tie_word_embeddings": true, "torch_dtype": "float16"})";

class WideCollector final : public QuantizedModelSink {
 public:
  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> block) override {
    for (NamedTensor& tensor : block) tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& report) override {
    reports.push_back(report);
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& module,
                    const std::string& /*why*/) override {
    return absl::InternalError(module);
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }

  std::vector<NamedTensor> tensors;
  std::vector<GroupReport> reports;
};

class QuantizeWideModelTest : public ::testing::Test {
 protected:
  QuantizeWideModelTest() : directory_(::testing::TempDir() + "quantize_wide_model_test") {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_ + "/model");
    testing::WriteRandomModel(directory_ + "/model", kConfig, DType::kF16, 3);
    for (int64_t row = 0; row < 6; ++row) {
      std::vector<int64_t> tokens;
      for (int64_t t = 0; t < 60; ++t) tokens.push_back((row * 7 + t * (3 + row)) % 40);
      calibration_.push_back(std::move(tokens));
    }
    method_.range = RangeChoice::kMinMax;
  }
  ~QuantizeWideModelTest() override { std::filesystem::remove_all(directory_); }

  WideCollector Quantize(int threads) {
    const testing::SmallModel model(directory_ + "/model");
    QuantizeModelParams params;
    params.method = method_;
    params.outputs[0].format.group_size = 64;
    params.work_directory = directory_ + "/work";
    std::filesystem::remove_all(params.work_directory);
    std::filesystem::create_directories(params.work_directory);
    testing::ThreadExecutor executor(threads);
    WideCollector collector;
    const absl::Status status =
        QuantizeModel(model.checkpoint, model.plan, calibration_, params, collector, executor);
    EXPECT_TRUE(status.ok()) << status;
    return collector;
  }

  static const GroupReport& Down(const WideCollector& collector) {
    for (const GroupReport& report : collector.reports) {
      if (report.linears.front().in_features == 1088) return report;
    }
    return collector.reports.front();
  }

  std::string directory_;
  std::vector<std::vector<int64_t>> calibration_;
  Method method_;
};

TEST_F(QuantizeWideModelTest, GptqCalibratesTheWholeGramAndBlockRoundingItsBlocks) {
  const GroupReport block = Down(Quantize(2));
  EXPECT_FALSE(block.exact_loss);
  method_.rounding = RoundingChoice::kGptq;
  const GroupReport gptq = Down(Quantize(2));
  ASSERT_EQ(gptq.linears.front().in_features, 1088);
  EXPECT_TRUE(gptq.exact_loss);
  EXPECT_EQ(gptq.loss_standard_error, 0);
  // 360 tokens in 1088 channels leave much room for errors that cancel.
  EXPECT_LT(gptq.loss, 0.6 * gptq.loss_rtn);
}

TEST_F(QuantizeWideModelTest, GptqIsTheSameBytesForAnyExecutor) {
  method_.rounding = RoundingChoice::kGptq;
  const WideCollector one = Quantize(1);
  const WideCollector three = Quantize(3);
  ASSERT_EQ(one.tensors.size(), three.tensors.size());
  for (size_t i = 0; i < one.tensors.size(); ++i) {
    EXPECT_EQ(one.tensors[i].name, three.tensors[i].name);
    EXPECT_EQ(one.tensors[i].data, three.tensors[i].data) << one.tensors[i].name;
  }
}

}  // namespace
}  // namespace salient
