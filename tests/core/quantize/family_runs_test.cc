// Quantizes a small model of every family: the same bytes for any number of threads, and from a run
// that was interrupted.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/model/families/family.h"
#include "core/parallel/executor.h"
#include "core/quantize/fold_proof.h"
#include "core/quantize/quantize_model.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::SmallModel;

class TensorsByName final : public QuantizedModelSink {
 public:
  explicit TensorsByName(int64_t fail_at = -1) : fail_at_(fail_at) {}

  absl::Status TensorsDone(int64_t block, size_t /*output*/,
                           std::vector<NamedTensor> tensors) override {
    if (block == fail_at_) return absl::UnavailableError("the other end went away");
    for (NamedTensor& tensor : tensors) bytes[tensor.name] = std::move(tensor.data);
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& report) override {
    EXPECT_LE(report.loss, report.loss_rtn) << report.name;
    // What is not scaled has nothing to prove.
    EXPECT_LE(report.fold_error.value_or(0), 1e-5) << report.name;
    proved += report.fold_error.has_value() ? 1 : 0;
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& /*module*/,
                    const std::string& /*why*/) override {
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }

  std::map<std::string, std::vector<std::byte>> bytes;
  int proved = 0;

 private:
  int64_t fail_at_;
};

class FamilyRunTest : public ::testing::TestWithParam<const char*> {
 protected:
  FamilyRunTest()
      : model_(testing::TestsDirectory() + "golden/families/" + GetParam()),
        directory_(std::filesystem::path(::testing::TempDir()) /
                   ("family_run." + std::string(GetParam()))) {
    LimitThreadToItself();
    std::filesystem::remove_all(directory_);
    std::mt19937_64 random(3);
    std::uniform_int_distribution<int64_t> id(0, model_.config.vocab_size - 1);
    for (int row = 0; row < 4; ++row) {
      std::vector<int64_t>& tokens = rows_.emplace_back(static_cast<size_t>(30 + 11 * row));
      for (int64_t& token : tokens) token = id(random);
    }
  }
  ~FamilyRunTest() override { std::filesystem::remove_all(directory_); }

  absl::Status Quantize(const std::string& name, QuantizedModelSink& sink, Executor& executor) {
    QuantizeModelParams params;
    params.work_directory = (directory_ / name).string();
    std::filesystem::create_directories(params.work_directory);
    params.outputs = {{{4, 4, true, DType::kF16}, OutputFormat::kCompressedTensors}};
    return QuantizeModel(model_.checkpoint, model_.plan, rows_, params, sink, executor);
  }

  SmallModel model_;
  std::filesystem::path directory_;
  std::vector<std::vector<int64_t>> rows_;
};

TEST_P(FamilyRunTest, GivesTheSameBytesForAnyThreadsAndAfterAnInterruption) {
  SerialExecutor serial;
  TensorsByName whole;
  ASSERT_TRUE(Quantize("whole", whole, serial).ok());
  EXPECT_GT(whole.bytes.size(), 10u);
  EXPECT_GT(whole.proved, 0) << "no group was scaled";

  testing::ThreadExecutor threads(3);
  TensorsByName threaded;
  ASSERT_TRUE(Quantize("threaded", threaded, threads).ok());
  EXPECT_TRUE(threaded.bytes == whole.bytes);

  TensorsByName first(/*fail_at=*/1);
  EXPECT_EQ(Quantize("interrupted", first, serial).code(), absl::StatusCode::kUnavailable);
  TensorsByName second;
  ASSERT_TRUE(Quantize("interrupted", second, threads).ok());
  first.bytes.merge(second.bytes);
  EXPECT_TRUE(first.bytes == whole.bytes);
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyRunTest,
                         ::testing::Values("gemma2_plain", "gemma3_pattern", "granite_plain",
                                           "lfm2_plain", "llama_longrope", "ministral3_plain",
                                           "mistral_yarn", "olmo2_plain", "olmo3_windows",
                                           "opt_after_norm", "opt_plain", "phi3_partial",
                                           "qwen2_layer_types", "qwen3_plain", "smollm3_interval"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace salient
