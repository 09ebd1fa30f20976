// Several results of one run, formats that overrides change, and the limit of error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"
#include "core/quantize_model.h"
#include "core/quantized_checkpoint.h"
#include "tests/core/model/small_model.h"
#include "tests/support/random_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Must;
using testing::SmallModel;

// hidden 64, q 4 x 16, k and v 2 x 16, three blocks.
std::string Config(int64_t inner) {
  return absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": )", inner,
      R"(, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, )"
      R"("vocab_size": 96, "rms_norm_eps": 1e-5, "dtype": "float16"})");
}

StoredFormat Stored(OutputFormat output, int bits = 4, int64_t group_size = 16,
                    bool symmetric = false) {
  return {{bits, group_size, symmetric, DType::kF16}, output};
}

constexpr OutputFormat kAwq = OutputFormat::kAwqGemm;
constexpr OutputFormat kPlain = OutputFormat::kDequantizedFp16;

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
  absl::Status TokensDone(int64_t /*block*/, int64_t count) override {
    tokens += count;
    return absl::OkStatus();
  }

  std::vector<int64_t> blocks;
  std::map<size_t, Tensors> tensors;
  std::map<size_t, std::map<std::string, GroupReport>> reports;
  std::map<size_t, std::map<std::string, std::string>> kept;
  std::vector<RaisedGroup> raised;
  int64_t tokens = 0;

 private:
  int64_t fail_at_;
};

// Counts how often each stage was begun.
class CountingExecutor final : public Executor {
 public:
  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    return serial_.ForEach(count, task);
  }
  Stage Enter(Stage stage) override {
    ++begun[static_cast<size_t>(stage)];
    return std::exchange(now_, stage);
  }
  int Concurrency() const override { return 1; }

  int64_t Begun(Stage stage) const { return begun[static_cast<size_t>(stage)]; }
  std::array<int64_t, kStages> begun = {};

 private:
  SerialExecutor serial_;
  Stage now_ = Stage::kOther;
};

void ExpectSameTensors(const Tensors& actual, const Tensors& expected) {
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

class QuantizeOutputsTest : public ::testing::Test {
 protected:
  QuantizeOutputsTest() {
    LimitThreadToItself();
    params_.method.rounding = RoundingChoice::kNearest;
    params_.work_directory = Directory("work");
    UseModel(96);
  }

  void UseModel(int64_t inner) {
    const std::string path = Directory(absl::StrCat("model", inner));
    testing::WriteRandomModel(path, Config(inner), DType::kF16, /*seed=*/11);
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

  absl::Status TryQuantize(const std::vector<StoredFormat>& outputs, Results& results,
                           Executor& executor) {
    QuantizeModelParams params = params_;
    params.outputs = outputs;
    std::vector<std::vector<int64_t>> rows(3);
    for (int64_t i = 0; i < 120; ++i) rows[i % 3].push_back((i * 37 + i / 7) % 96);
    return QuantizeModel(model_->checkpoint, model_->config, rows, params, results, executor);
  }

  // In a fresh directory.
  Results Quantize(const std::vector<StoredFormat>& outputs) {
    params_.work_directory = Directory("run");
    Results results;
    const absl::Status status = TryQuantize(outputs, results, threads_);
    EXPECT_TRUE(status.ok()) << status;
    return results;
  }

  // What the plan foretells of the blocks is what was emitted.
  void ExpectPlanned(const StoredFormat& stored, const Results& results, size_t output) {
    QuantizedCheckpointParams params;
    params.stored = stored;
    params.overrides = params_.overrides;
    params.raised = results.raised;
    params.output = output;
    const QuantizedCheckpointPlan plan =
        Must(PlanQuantizedCheckpoint(model_->config, config_json_, params));
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
  testing::ThreadExecutor threads_{2};
};

TEST_F(QuantizeOutputsTest, EachResultIsTheOneOfARunOfItsOwn) {
  const std::vector<StoredFormat> outputs = {Stored(kPlain, 3), Stored(kAwq), Stored(kPlain, 4),
                                             Stored(kAwq, 4, 32),
                                             Stored(kAwq, 4, 16, /*symmetric=*/true)};
  const Results all = Quantize(outputs);
  EXPECT_EQ(all.tokens, 3 * 120);
  EXPECT_EQ(all.blocks, (std::vector<int64_t>{0, 1, 2}));
  for (size_t i = 0; i < outputs.size(); ++i) {
    SCOPED_TRACE(i);
    const Results one = Quantize({outputs[i]});
    ExpectSameTensors(all.tensors.at(i), one.tensors.at(0));
    ASSERT_EQ(all.reports.at(i).size(), 12u);
    for (const auto& [name, report] : one.reports.at(0)) {
      const GroupReport& same = all.reports.at(i).at(name);
      EXPECT_EQ(same.loss, report.loss) << name;
      EXPECT_EQ(same.loss_rtn, report.loss_rtn) << name;
      for (size_t k = 0; k < report.linears.size(); ++k) {
        EXPECT_EQ(same.linears[k].bytes_out, report.linears[k].bytes_out) << name;
        EXPECT_EQ(same.linears[k].bits, outputs[i].format.bits) << name;
      }
    }
    ExpectPlanned(outputs[i], all, i);
  }
  // Were all results the same, nothing would be shown.
  EXPECT_NE(all.tensors.at(1).at("model.layers.0.mlp.up_proj.qweight").data,
            all.tensors.at(4).at("model.layers.0.mlp.up_proj.qweight").data);
}

TEST_F(QuantizeOutputsTest, OneForwardPassServesAllAndOneSearchAllOfAFormat) {
  const auto count = [&](const std::vector<StoredFormat>& outputs) {
    params_.work_directory = Directory("count");
    CountingExecutor executor;
    Results results;
    EXPECT_TRUE(TryQuantize(outputs, results, executor).ok());
    return executor;
  };
  const CountingExecutor one = count({Stored(kAwq)});
  const CountingExecutor alike = count({Stored(kAwq), Stored(kPlain)});
  const CountingExecutor unlike = count({Stored(kAwq), Stored(kPlain, 3)});
  for (const Stage stage : {Stage::kScaleSearch, Stage::kRounding}) {
    EXPECT_GT(one.Begun(stage), 0);
    EXPECT_EQ(alike.Begun(stage), one.Begun(stage));
    EXPECT_GE(unlike.Begun(stage), 2 * 12);
    EXPECT_GT(unlike.Begun(stage), one.Begun(stage));
  }
  EXPECT_GT(alike.Begun(Stage::kPack), one.Begun(Stage::kPack));
  EXPECT_EQ(alike.Begun(Stage::kForward), one.Begun(Stage::kForward));
  EXPECT_EQ(unlike.Begun(Stage::kForward), one.Begun(Stage::kForward));
}

// awq-gemm keeps gate and up, of 172 outputs, so down cannot fold into up: other codes for it than
// where up is quantized.
TEST_F(QuantizeOutputsTest, ALayoutThatHoldsLessSharesNothing) {
  UseModel(172);
  const std::vector<StoredFormat> outputs = {Stored(kAwq, 4, 4), Stored(kPlain, 4, 4)};
  const Results both = Quantize(outputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    SCOPED_TRACE(i);
    const Results one = Quantize({outputs[i]});
    ExpectSameTensors(both.tensors.at(i), one.tensors.at(0));
    ExpectPlanned(outputs[i], both, i);
  }
  EXPECT_EQ(both.kept.at(0).size(), 6u);
  EXPECT_FALSE(both.kept.contains(1));
}

TEST_F(QuantizeOutputsTest, OverriddenLinearsAreThoseOfARunInThatFormat) {
  const std::string down = "model.layers.1.mlp.down_proj";
  const Results narrow = Quantize({Stored(kPlain, 3)});
  const Results wide = Quantize({Stored(kPlain, 8)});
  params_.overrides = {{down, 8, 0, false},
                       {"model.layers.2.self_attn.q_proj", 0, 0, true},
                       {"model.layers.2.self_attn.k_proj", 0, 0, true},
                       {"model.layers.2.self_attn.v_proj", 0, 0, true}};
  const Results mixed = Quantize({Stored(kPlain, 3)});
  const Tensors& tensors = mixed.tensors.at(0);
  // Nothing is folded into down_proj, so all that matters is its own format.
  EXPECT_EQ(tensors.at(down + ".weight").data, wide.tensors.at(0).at(down + ".weight").data);
  EXPECT_NE(tensors.at(down + ".weight").data, narrow.tensors.at(0).at(down + ".weight").data);
  EXPECT_EQ(mixed.reports.at(0).at("model.layers.1.mlp.down_proj").linears[0].bits, 8);
  EXPECT_EQ(mixed.reports.at(0).at("model.layers.0.mlp.down_proj").linears[0].bits, 3);
  // Skipped: as they came, no fold of o_proj in them, and no warning of what was asked for.
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    const std::string weight = absl::StrCat("model.layers.2.self_attn.", name, ".weight");
    EXPECT_EQ(tensors.at(weight).data, Source(weight)) << weight;
  }
  EXPECT_THAT(mixed.kept, IsEmpty());
  // Block 0 has nothing to do with it.
  for (const auto& [name, tensor] : narrow.tensors.at(0)) {
    if (absl::StartsWith(name, "model.layers.0.")) {
      EXPECT_EQ(tensors.at(name).data, tensor.data) << name;
    }
  }
  ExpectPlanned(Stored(kPlain, 3), mixed, 0);
}

// Groups that nothing is folded into: their error does not depend on what other groups got.
bool StandsAlone(const std::string& group) {
  return absl::EndsWith(group, "o_proj") || absl::EndsWith(group, "down_proj");
}

// In the middle of the errors of `report`s groups that stand alone.
double MiddleError(const std::map<std::string, GroupReport>& reports) {
  std::vector<double> errors;
  for (const auto& [name, report] : reports) {
    if (StandsAlone(name)) errors.push_back(report.linears[0].relative_output_error);
  }
  std::sort(errors.begin(), errors.end());
  return (errors[2] + errors[3]) / 2;
}

TEST_F(QuantizeOutputsTest, GroupsAboveTheLimitGetEightBitsWhereTheLayoutMixesWidths) {
  const StoredFormat stored = Stored(kPlain, 3);
  const Results free = Quantize({stored});
  const Results wide = Quantize({Stored(kPlain, 8)});
  const double limit = MiddleError(free.reports.at(0));
  params_.max_relative_error = limit;
  const Results limited = Quantize({stored});
  int raised = 0;
  for (const auto& [name, report] : limited.reports.at(0)) {
    for (const LinearReport& linear : report.linears) {
      EXPECT_LE(linear.relative_output_error, limit) << linear.name;
      EXPECT_EQ(linear.bits, report.linears[0].bits) << "fused Linears differ";
    }
    if (!StandsAlone(name)) continue;
    const bool above = free.reports.at(0).at(name).linears[0].relative_output_error > limit;
    EXPECT_EQ(report.linears[0].bits, above ? 8 : 3) << name;
    const std::string weight = name + ".weight";
    EXPECT_EQ(limited.tensors.at(0).at(weight).data,
              (above ? wide : free).tensors.at(0).at(weight).data)
        << name;
    EXPECT_EQ(report.notes.size(), above ? 1u : 0u) << name;
    if (above) {
      ++raised;
      EXPECT_THAT(report.notes[0], HasSubstr("has 8 bits, because the relative output error of"));
    }
  }
  EXPECT_EQ(raised, 3);
  int told = 0;
  for (const RaisedGroup& group : limited.raised) {
    EXPECT_EQ(group.bits, 8);
    EXPECT_THAT(group.why, HasSubstr("at 3 bits, above"));
    told += group.role == GroupRole::kOutput || group.role == GroupRole::kDown ? 1 : 0;
  }
  EXPECT_EQ(told, 3);
  ExpectPlanned(stored, limited, 0);
}

TEST_F(QuantizeOutputsTest, GroupsAboveTheLimitStayF16WhereTheLayoutHasOneWidth) {
  const std::vector<StoredFormat> outputs = {Stored(kAwq), Stored(kPlain)};
  const Results free = Quantize(outputs);
  const double limit = MiddleError(free.reports.at(0));
  params_.max_relative_error = limit;
  const Results limited = Quantize(outputs);
  int kept = 0;
  for (const auto& [name, report] : limited.reports.at(0)) {
    if (!StandsAlone(name)) continue;
    const bool above = free.reports.at(0).at(name).linears[0].relative_output_error > limit;
    EXPECT_EQ(report.linears[0].bits, above ? 16 : 4) << name;
    EXPECT_EQ(limited.reports.at(1).at(name).linears[0].bits, above ? 8 : 4) << name;
    if (!above) continue;
    ++kept;
    EXPECT_EQ(limited.tensors.at(0).at(name + ".weight").data, Source(name + ".weight"));
    EXPECT_FALSE(limited.tensors.at(0).contains(name + ".qweight"));
    EXPECT_EQ(report.loss, 0);
    EXPECT_GT(report.loss_rtn, 0);
    EXPECT_EQ(report.linears[0].bytes_out, 2 * report.parameters);
    EXPECT_THAT(report.notes.back(), HasSubstr("stays F16, because"));
  }
  EXPECT_EQ(kept, 3);
  for (size_t i = 0; i < outputs.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectPlanned(outputs[i], limited, i);
    const Results one = Quantize({outputs[i]});
    ExpectSameTensors(limited.tensors.at(i), one.tensors.at(0));
  }
}

TEST_F(QuantizeOutputsTest, ALimitThatLeavesNothingIsToldByThePlan) {
  params_.max_relative_error = 1e-12;
  const Results results = Quantize({Stored(kPlain)});
  EXPECT_EQ(results.raised.size(), 12u);
  QuantizedCheckpointParams params;
  params.stored = Stored(kPlain);
  params.raised = results.raised;
  const absl::Status status =
      PlanQuantizedCheckpoint(model_->config, config_json_, params).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("max_relative_error leaves nothing"));
}

// What the first run decided about blocks that are out is known to the second.
TEST_F(QuantizeOutputsTest, AnInterruptedRunGoesOnWithWhatWasDecided) {
  const std::vector<StoredFormat> outputs = {Stored(kAwq), Stored(kPlain, 3)};
  params_.max_relative_error = MiddleError(Quantize(outputs).reports.at(0));
  const Results whole = Quantize(outputs);
  params_.work_directory = Directory("interrupted");
  Results first(/*fail_at=*/2);
  SerialExecutor serial;
  EXPECT_EQ(TryQuantize(outputs, first, serial).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(first.blocks, (std::vector<int64_t>{0, 1}));
  Results second;
  ASSERT_TRUE(TryQuantize(outputs, second, serial).ok());
  EXPECT_EQ(second.blocks, (std::vector<int64_t>{2}));
  for (size_t i = 0; i < outputs.size(); ++i) {
    SCOPED_TRACE(i);
    Tensors joined = first.tensors.at(i);
    joined.merge(second.tensors.at(i));
    ExpectSameTensors(joined, whole.tensors.at(i));
  }
  ASSERT_EQ(second.raised.size(), whole.raised.size());
  ASSERT_FALSE(whole.raised.empty());
  EXPECT_LT(whole.raised.front().layer, 2) << "nothing was decided before the interruption";
  for (size_t i = 0; i < whole.raised.size(); ++i) {
    EXPECT_EQ(second.raised[i].output, whole.raised[i].output);
    EXPECT_EQ(second.raised[i].layer, whole.raised[i].layer);
    EXPECT_EQ(second.raised[i].role, whole.raised[i].role);
    EXPECT_EQ(second.raised[i].bits, whole.raised[i].bits);
    EXPECT_EQ(second.raised[i].why, whole.raised[i].why);
  }
}

TEST_F(QuantizeOutputsTest, WhatCannotBeIsRefusedBeforeAnyWork) {
  const auto refusal = [&](const std::vector<StoredFormat>& outputs) {
    params_.work_directory = Directory("refused");
    Results results;
    const absl::Status status = TryQuantize(outputs, results, threads_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(fs::is_empty(params_.work_directory));
    return std::string(status.message());
  };
  EXPECT_THAT(refusal({}), HasSubstr("0 outputs"));
  // Of several, the layout at fault is named.
  EXPECT_THAT(refusal({Stored(kPlain, 3), Stored(kAwq, 3)}), HasSubstr("awq-gemm: "));
  for (const double limit : {-0.5, std::nan(""), std::numeric_limits<double>::infinity()}) {
    params_.max_relative_error = limit;
    EXPECT_THAT(refusal({Stored(kPlain)}), HasSubstr("max_relative_error is "));
  }
  params_.max_relative_error = 0;
  params_.overrides = {{"model.layers.3.mlp.down_proj", 8, 0, false}};
  EXPECT_THAT(refusal({Stored(kPlain)}), HasSubstr("model.layers.3.mlp.down_proj"));
}

TEST_F(QuantizeOutputsTest, ADamagedRecordOfDecisionsIsAnErrorThatNamesIt) {
  params_.max_relative_error = 0.5;
  for (const char* text :
       {"not json", "{}", "[{}]", R"([{"output": 0, "layer": 0, "role": 9, "bits": 8,
                           "why": ""}])"}) {
    params_.work_directory = Directory("damaged");
    std::ofstream(params_.work_directory + "/raised.json") << text;
    Results results;
    const absl::Status status = TryQuantize({Stored(kPlain)}, results, threads_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("raised.json")) << text;
  }
}

}  // namespace
}  // namespace salient
