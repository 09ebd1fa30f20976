// Tests several results of one run, and formats that overrides change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/tensor/stored_format.h"
#include "tests/core/quantize/quantize_outputs_fixture.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using testing::ExpectSameTensors;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kAwq;
using testing::kPlain;
using testing::Results;
using testing::Stored;
using testing::Tensors;

using QuantizeOutputsTest = testing::QuantizeOutputsFixture;

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
  // The layout at fault is named where there are several.
  EXPECT_THAT(refusal({Stored(kPlain, 3), Stored(kAwq, 3)}), HasSubstr("awq-gemm: "));
  for (const double limit : {-0.5, std::nan(""), std::numeric_limits<double>::infinity()}) {
    params_.max_relative_error = limit;
    EXPECT_THAT(refusal({Stored(kPlain)}), HasSubstr("max_relative_error is "));
  }
  params_.max_relative_error = 0;
  params_.overrides = {{"model.layers.3.mlp.down_proj", 8, 0, false}};
  EXPECT_THAT(refusal({Stored(kPlain)}), HasSubstr("model.layers.3.mlp.down_proj"));
}

}  // namespace
}  // namespace salient
