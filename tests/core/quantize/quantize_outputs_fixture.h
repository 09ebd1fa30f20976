// A random model quantized into several results at once, all of them kept.
#ifndef SALIENT_TESTS_CORE_QUANTIZE_QUANTIZE_OUTPUTS_FIXTURE_H_
#define SALIENT_TESTS_CORE_QUANTIZE_QUANTIZE_OUTPUTS_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/model/activation_range.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/result/quantized_checkpoint.h"
#include "core/result/raised_group.h"
#include "core/safetensors/layout.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/small_model.h"
#include "tests/support/random_model.h"
#include "tests/support/thread_executor.h"

namespace salient::testing {

namespace fs = std::filesystem;

// hidden 64, q 4 x 16, k and v 2 x 16, three blocks.
inline std::string Config(int64_t inner) {
  return absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": )", inner,
      R"(, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, )"
      R"("vocab_size": 96, "rms_norm_eps": 1e-5, "dtype": "float16"})");
}

inline StoredFormat Stored(OutputFormat output, int bits = 4, int64_t group_size = 16,
                           bool symmetric = false) {
  return {{bits, group_size, symmetric, DType::kF16}, output};
}

inline constexpr OutputFormat kAwq = OutputFormat::kAwqGemm;
inline constexpr OutputFormat kPlain = OutputFormat::kDequantizedFp16;

using Tensors = std::map<std::string, NamedTensor>;

class Results final : public QuantizedModelSink {
 public:
  explicit Results(int64_t fail_at = -1) : fail_at_(fail_at) {}

  absl::Status TensorsDone(int64_t block, size_t output,
                           std::vector<NamedTensor> block_tensors) override {
    if (block == fail_at_) return absl::UnavailableError("the other end went away");
    for (NamedTensor& tensor : block_tensors) {
      const std::string name = tensor.name;
      EXPECT_TRUE(tensors[output].emplace(name, std::move(tensor)).second) << name << " came twice";
    }
    return absl::OkStatus();
  }
  absl::Status BlockDone(int64_t block) override {
    blocks.push_back(block);
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t output, const GroupReport& report) override {
    EXPECT_TRUE(reports[output].emplace(report.name, report).second) << report.name;
    return absl::OkStatus();
  }
  absl::Status Kept(size_t output, const std::string& module, const std::string& why) override {
    kept[output][module] = why;
    return absl::OkStatus();
  }
  absl::Status Raised(const RaisedGroup& group) override {
    raised.push_back(group);
    return absl::OkStatus();
  }
  absl::Status RangeGrew(const ActivationRange& range) override {
    ranges.push_back(range);
    return absl::OkStatus();
  }
  absl::Status AllZero(const std::vector<std::string>& names) override {
    zero.insert(zero.end(), names.begin(), names.end());
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t count) override {
    tokens += count;
    return absl::OkStatus();
  }

  std::vector<ActivationRange> ranges;
  std::vector<std::string> zero;
  std::vector<int64_t> blocks;
  std::map<size_t, Tensors> tensors;
  std::map<size_t, std::map<std::string, GroupReport>> reports;
  std::map<size_t, std::map<std::string, std::string>> kept;
  std::vector<RaisedGroup> raised;
  int64_t tokens = 0;

 private:
  int64_t fail_at_;
};

inline void ExpectSameTensors(const Tensors& actual, const Tensors& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    const auto found = actual.find(name);
    if (found == actual.end()) {
      ADD_FAILURE() << name << " is missing";
      continue;
    }
    EXPECT_EQ(found->second.dtype, tensor.dtype) << name;
    EXPECT_EQ(found->second.shape, tensor.shape) << name;
    EXPECT_EQ(found->second.data, tensor.data) << name;
  }
}

class QuantizeOutputsFixture : public ::testing::Test {
 protected:
  QuantizeOutputsFixture() {
    LimitThreadToItself();
    params_.method.rounding = RoundingChoice::kNearest;
    params_.work_directory = Directory("work");
    UseModel(96);
  }

  void UseModel(int64_t inner) {
    const std::string path = Directory(absl::StrCat("model", inner));
    WriteRandomModel(path, Config(inner), DType::kF16, /*seed=*/11);
    model_ = std::make_unique<SmallModel>(path);
    config_json_ = Config(inner);
  }

  std::string Directory(const std::string& name) {
    std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    const fs::path path = fs::path(::testing::TempDir()) / (test + ".outputs." + name);
    fs::remove_all(path);
    fs::create_directories(path);
    return path.string();
  }

  static std::vector<std::vector<int64_t>> Rows() {
    std::vector<std::vector<int64_t>> rows(3);
    for (int64_t i = 0; i < 120; ++i) rows[i % 3].push_back((i * 37 + i / 7) % 96);
    return rows;
  }

  absl::Status TryQuantize(const std::vector<StoredFormat>& outputs, Results& results,
                           Executor& executor) {
    QuantizeModelParams params = params_;
    params.outputs = outputs;
    return QuantizeModel(model_->checkpoint, model_->plan, Rows(), params, results, executor);
  }

  // Quantizes in a fresh directory.
  Results Quantize(const std::vector<StoredFormat>& outputs) {
    params_.work_directory = Directory("run");
    Results results;
    const absl::Status status = TryQuantize(outputs, results, threads_);
    EXPECT_TRUE(status.ok()) << status;
    return results;
  }

  // Checks that what the plan foretells of the blocks is what was emitted.
  void ExpectPlanned(const StoredFormat& stored, const Results& results, size_t output) {
    QuantizedCheckpointParams params;
    params.stored = stored;
    params.overrides = params_.overrides;
    params.raised = results.raised;
    params.output = output;
    const QuantizedCheckpointPlan plan =
        Must(PlanQuantizedCheckpoint(model_->plan, config_json_, params));
    std::set<std::string> planned;
    for (const SafetensorsLayout::Place& place : plan.files.at(0).layout.places) {
      if (!absl::StartsWith(place.tensor.name, "model.layers.")) continue;
      planned.insert(place.tensor.name);
      const auto found = results.tensors.at(output).find(place.tensor.name);
      ASSERT_NE(found, results.tensors.at(output).end()) << place.tensor.name;
      EXPECT_EQ(found->second.dtype, place.tensor.dtype) << place.tensor.name;
      EXPECT_EQ(found->second.shape, place.tensor.shape) << place.tensor.name;
    }
    EXPECT_EQ(planned.size(), results.tensors.at(output).size());
  }

  std::vector<std::byte> Source(const std::string& tensor) const {
    return Must(model_->checkpoint.Read(tensor));
  }

  std::unique_ptr<SmallModel> model_;
  std::string config_json_;
  QuantizeModelParams params_;
  ThreadExecutor threads_{2};
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_QUANTIZE_QUANTIZE_OUTPUTS_FIXTURE_H_
