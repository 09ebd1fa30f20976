// Tests the limit of error: which groups are raised above it, and how a second run knows.
#include "core/quantize/limit_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "core/quantize/quantize_model.h"
#include "core/result/quantized_checkpoint.h"
#include "core/result/raised_group.h"
#include "core/tensor/stored_format.h"
#include "tests/core/quantize/quantize_outputs_fixture.h"

namespace salient {
namespace {

using testing::ExpectSameTensors;
using ::testing::HasSubstr;
using testing::kAwq;
using testing::kPlain;
using testing::Results;
using testing::Stored;
using testing::Tensors;

using LimitErrorTest = testing::QuantizeOutputsFixture;

// Groups that nothing is folded into: their error does not depend on what other groups got.
bool StandsAlone(const std::string& group) {
  return absl::EndsWith(group, "o_proj") || absl::EndsWith(group, "down_proj");
}

// Returns the middle of the errors of `report`s groups that stand alone.
double MiddleError(const std::map<std::string, GroupReport>& reports) {
  std::vector<double> errors;
  for (const auto& [name, report] : reports) {
    if (StandsAlone(name)) errors.push_back(report.linears[0].relative_output_error);
  }
  std::sort(errors.begin(), errors.end());
  return (errors[2] + errors[3]) / 2;
}

TEST_F(LimitErrorTest, GroupsAboveTheLimitGetEightBitsWhereTheLayoutMixesWidths) {
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
    told += group.group == "self_attn.o_proj" || group.group == "mlp.down_proj" ? 1 : 0;
  }
  EXPECT_EQ(told, 3);
  ExpectPlanned(stored, limited, 0);
}

TEST_F(LimitErrorTest, GroupsAboveTheLimitStayF16WhereTheLayoutHasOneWidth) {
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
    EXPECT_THAT(report.notes.back(), HasSubstr("is not quantized, because"));
  }
  EXPECT_EQ(kept, 3);
  for (size_t i = 0; i < outputs.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectPlanned(outputs[i], limited, i);
    const Results one = Quantize({outputs[i]});
    ExpectSameTensors(limited.tensors.at(i), one.tensors.at(0));
  }
}

TEST_F(LimitErrorTest, ALimitThatLeavesNothingIsToldByThePlan) {
  params_.max_relative_error = 1e-12;
  const Results results = Quantize({Stored(kPlain)});
  EXPECT_EQ(results.raised.size(), 12u);
  QuantizedCheckpointParams params;
  params.stored = Stored(kPlain);
  params.raised = results.raised;
  const absl::Status status = PlanQuantizedCheckpoint(model_->plan, config_json_, params).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("max_relative_error leaves nothing"));
}

// What the first run decided about blocks that are out is known to the second.
TEST_F(LimitErrorTest, AnInterruptedRunGoesOnWithWhatWasDecided) {
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
    EXPECT_EQ(second.raised[i].group, whole.raised[i].group);
    EXPECT_EQ(second.raised[i].bits, whole.raised[i].bits);
    EXPECT_EQ(second.raised[i].why, whole.raised[i].why);
  }
}

TEST_F(LimitErrorTest, ADamagedRecordOfDecisionsIsAnErrorThatNamesIt) {
  params_.max_relative_error = 0.5;
  SerialExecutor serial;
  for (const std::string text :
       {R"(not json)", R"([])", R"({"raised": []})", R"({"raised": [], "largest": 1, "where": 2})",
        R"({"raised": [{}], "largest": 1, "where": ""})",
        R"({"raised": [{"output": 0, "layer": 0, "role": 9, "bits": 8, "why": ""}],
            "largest": 1, "where": ""})"}) {
    params_.work_directory = Directory("damaged");
    Results first(/*fail_at=*/1);
    ASSERT_FALSE(TryQuantize({Stored(kPlain)}, first, serial).ok());
    std::ofstream(params_.work_directory + "/record.json") << text;
    Results results;
    const absl::Status status = TryQuantize({Stored(kPlain)}, results, serial);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("record.json")) << text;
  }
}

}  // namespace
}  // namespace salient
