#include "client/report/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "client/report/evaluation.h"
#include "client/report/note_lines.h"
#include "client/terminal/job_display.h"
#include "client/terminal/status_line.h"
#include "core/config/json.h"

namespace salient::client {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

v1::GroupReport GroupReportOf(const std::string& name, double loss_rtn, double loss, bool kept) {
  v1::GroupReport report;
  report.set_name(name);
  report.mutable_candidate()->set_identity(true);
  report.set_loss_rtn(loss_rtn);
  report.set_loss(loss);
  v1::LinearReport& linear = *report.add_linears();
  linear.set_name(name + ".weight");
  linear.set_kept_rtn(kept);
  return report;
}

FinishedJob Outcome() {
  FinishedJob outcome;
  outcome.job.set_name("jobs/j");
  v1::Usage& usage = *outcome.job.mutable_usage();
  usage.set_parameters(4'000'000);
  usage.set_bytes_in(8 << 20);
  usage.set_bytes_out(2 << 20);
  usage.set_peak_memory_bytes(100 << 20);
  usage.set_linear_count(35);
  usage.set_quantized_linear_count(5);
  outcome.job.mutable_estimate()->set_seconds(3);
  outcome.groups = {GroupReportOf("a", 4, 1, false), GroupReportOf("b", 2, 1.5, true),
                    GroupReportOf("c", 0, 0, false)};
  outcome.groups[0].add_notes("loud\x1b[2J");
  outcome.warnings = {"down_proj stays in F16"};
  return outcome;
}

// Reads fields of a parsed object.
class Parsed {
 public:
  explicit Parsed(const std::string& text) {
    auto value = ParseJson("output", text);
    EXPECT_TRUE(value.ok()) << value.status() << text;
    if (value.ok()) value_ = *std::move(value);
  }
  const JsonValue& operator[](absl::string_view key) const {
    static const JsonValue kNull;
    const JsonValue* found = value_.Find(key);
    EXPECT_NE(found, nullptr) << key;
    return found == nullptr ? kNull : *found;
  }
  bool Has(absl::string_view key) const { return value_.Find(key) != nullptr; }

 private:
  JsonValue value_;
};

double Number(const JsonValue& value) { return value.AsDouble().value_or(std::nan("")); }

TEST(JobReportTest, MeanLossRatioLeavesOutWhatRtnLosesNothingIn) {
  EXPECT_DOUBLE_EQ(MeanLossRatio(Outcome().groups), (0.25 + 0.75) / 2);
  EXPECT_TRUE(std::isnan(MeanLossRatio({})));
}

TEST(JobReportTest, TableSaysWhatItCostAndWhatItIsWorth) {
  const std::string table = QuantizeTable("src", "dst", 61, Outcome());
  EXPECT_THAT(table, AllOf(HasSubstr("4.00 M"), HasSubstr("8.00 MiB"), HasSubstr("2.00 MiB"),
                           HasSubstr("1 min 1 s"), HasSubstr("100 MiB"), HasSubstr("0.500"),
                           HasSubstr("1 of 3 Linears"), HasSubstr("5 of 35 Linears"),
                           HasSubstr("note: a: loud [2J\n"), Not(HasSubstr("results"))));
  FinishedJob two = Outcome();
  two.groups[0].set_directory("gptq");
  EXPECT_THAT(QuantizeTable("src", "dst", 61, two), HasSubstr("2.00 MiB in 2 results"));
}

TEST(JobReportTest, TableShowsTheLargestFoldErrorWhereScalesWereFolded) {
  FinishedJob outcome = Outcome();
  EXPECT_THAT(QuantizeTable("src", "dst", 1, outcome), Not(HasSubstr("fold error")));
  outcome.groups[0].set_fold_error(3.14e-7);
  outcome.groups[2].set_fold_error(2e-8);
  EXPECT_THAT(QuantizeTable("src", "dst", 1, outcome),
              HasSubstr("largest fold error     3.1e-07\n"));
}

TEST(JobReportTest, AnEstimateSaysWhatItTookForGranted) {
  EXPECT_THAT(EstimateTable("src", v1::Estimate(), "128 rows"), HasSubstr("assumed      128 rows"));
  EXPECT_THAT(EstimateTable("src", v1::Estimate(), ""), Not(HasSubstr("assumed")));
}

TEST(NoteLinesTest, WhatIsSaidOfEveryBlockIsSaidOnce) {
  std::vector<v1::GroupReport> groups;
  for (int block = 0; block < 12; ++block) {
    const std::string prefix = "model.layers." + std::to_string(block);
    v1::GroupReport& group = groups.emplace_back();
    group.set_name(prefix + ".mlp.down_proj");
    group.add_notes(group.name() + ": not scaled, because the Linear before it stays F16");
    if (block == 3) {
      v1::GroupReport& qkv = groups.emplace_back();
      qkv.set_name(prefix + ".self_attn.qkv_proj");
      qkv.add_linears()->set_name(prefix + ".self_attn.q_proj");
      qkv.add_notes(prefix + ".self_attn.q_proj: plain round-to-nearest was better and was kept");
      qkv.add_notes("damping: 0.4");
    }
  }
  EXPECT_EQ(
      NoteLines(groups),
      "note: 12 of model.layers.*.mlp.down_proj: not scaled, because the Linear before it "
      "stays F16\n"
      "note: model.layers.3.self_attn.q_proj: plain round-to-nearest was better and was kept\n"
      "note: model.layers.3.self_attn.qkv_proj: damping: 0.4\n");
  groups[0].set_directory("gptq");
  EXPECT_THAT(NoteLines(groups), AllOf(HasSubstr("note: gptq: model.layers.0.mlp.down_proj: not"),
                                       HasSubstr("note: 11 of ")));
  EXPECT_EQ(NoteLines({}), "");
}

TEST(JobReportTest, JsonHasEveryFieldPromised) {
  const Parsed json(QuantizeJson("dst", 2.5, Outcome()));
  EXPECT_EQ(*json["job"].AsString(), "jobs/j");
  EXPECT_EQ(*json["output"].AsString(), "dst");
  EXPECT_EQ(Number(json["parameters"]), 4e6);
  EXPECT_EQ(Number(json["bytes_in"]), 8 << 20);
  EXPECT_EQ(Number(json["bytes_out"]), 2 << 20);
  EXPECT_EQ(Number(json["seconds"]), 2.5);
  EXPECT_EQ(Number(json["peak_rss_bytes"]), 100 << 20);
  EXPECT_EQ(Number(*json["estimate"].Find("seconds")), 3);
  const JsonValue::Array& groups = *json["groups"].AsArray();
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(*groups[1].Find("name")->AsString(), "b");
  EXPECT_EQ(Number(*groups[1].Find("loss_rtn")), 2);
  EXPECT_EQ(Number(*groups[1].Find("loss")), 1.5);
  EXPECT_NE(groups[1].Find("ratio"), nullptr);
}

TEST(JobReportTest, JobsSayStateTaskAndError) {
  v1::Job job;
  job.set_name("jobs/j");
  job.set_state(v1::JOB_STATE_FAILED);
  job.mutable_spec()->mutable_evaluate();
  job.mutable_error()->set_message("no\x07 tokens");
  job.add_missing()->set_size_bytes(2048);
  EXPECT_THAT(JobsTable({&job, 1}),
              AllOf(HasSubstr("jobs/j"), HasSubstr("failed"), HasSubstr("evaluate"),
                    HasSubstr("2.00 KiB"), HasSubstr("no  tokens")));
  const Parsed json(JobJson(job).Text());
  EXPECT_EQ(*json["job"].AsString(), "jobs/j") << "as the answer of quantize calls it";
  EXPECT_TRUE(json.Has("peak_rss_bytes"));
  EXPECT_EQ(*json["state"].AsString(), "failed");
  EXPECT_EQ(Number(json["missing_bytes"]), 2048);
  EXPECT_TRUE(json.Has("error"));
}

v1::Evaluation Compared() {
  v1::Evaluation evaluation;
  evaluation.mutable_reference()->set_perplexity(8);
  evaluation.mutable_model()->set_perplexity(8.5);
  evaluation.mutable_model()->set_kl(0.02);
  evaluation.mutable_model()->set_top1_agreement(0.95);
  evaluation.mutable_model()->add_layer_errors(0.001);
  evaluation.mutable_round_to_nearest()->set_perplexity(9);
  evaluation.mutable_round_to_nearest()->set_kl(0.1);
  evaluation.mutable_round_to_nearest()->add_layer_errors(0.004);
  return evaluation;
}

TEST(EvaluationReportTest, SourceRtnAndResultSideBySide) {
  EXPECT_THAT(
      EvaluationTable("r", "s", Compared()),
      AllOf(HasSubstr("8.00000"), HasSubstr("8.50000"), HasSubstr("9.00000"), HasSubstr("0.020000"),
            HasSubstr("95.00 %"), HasSubstr("0.001000"), HasSubstr("0.004000")));
  const Parsed json(EvaluationJson(1, Compared()));
  EXPECT_EQ(Number(*json["source"].Find("perplexity")), 8);
  EXPECT_EQ(Number(*json["result"].Find("perplexity")), 8.5);
  EXPECT_EQ(Number(*json["rtn"].Find("perplexity")), 9);
  EXPECT_EQ(Number(json["kl"]), 0.02);
  EXPECT_EQ(Number(json["top1_agreement"]), 0.95);
  EXPECT_EQ(Number(json["rtn_kl"]), 0.1);
  EXPECT_EQ(Number(*(*json["layers"].AsArray())[0].Find("error")), 0.001);
}

TEST(EvaluationReportTest, SaysWhatRoundToNearestIs) {
  v1::EvaluateTask task;
  EXPECT_EQ(NearestText(task, Compared()),
            "round-to-nearest: each Linear in the bits and groups that the result has\n");
  task.mutable_round_to_nearest()->set_bits(3);
  EXPECT_EQ(NearestText(task, Compared()), "round-to-nearest: 3 bits, a scale for 128 columns\n");
  task.mutable_round_to_nearest()->set_group_size(-1);
  task.mutable_round_to_nearest()->set_symmetric(true);
  EXPECT_EQ(NearestText(task, Compared()),
            "round-to-nearest: 3 bits, symmetric, a scale for a row\n");
  EXPECT_EQ(NearestText(task, v1::Evaluation()), "");
}

TEST(EvaluationReportTest, AloneThereIsNothingToCompareWith) {
  v1::Evaluation evaluation;
  evaluation.mutable_model()->set_perplexity(8.5);
  EXPECT_THAT(EvaluationTable("r", "", evaluation),
              AllOf(HasSubstr("8.50000"), Not(HasSubstr("KL"))));
  const Parsed json(EvaluationJson(1, evaluation));
  EXPECT_FALSE(json.Has("source"));
  EXPECT_FALSE(json.Has("rtn"));
  EXPECT_FALSE(json.Has("kl"));
}

class JobDisplayTest : public ::testing::Test {
 protected:
  std::string Text() const {
    std::string text(static_cast<size_t>(std::ftell(file_.get())), '\0');
    std::rewind(file_.get());
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_.get()), text.size());
    return text;
  }
  static v1::JobEvent Block(int64_t block) {
    v1::JobEvent event;
    event.mutable_progress()->set_stage(v1::Progress::STAGE_QUANTIZE);
    event.mutable_progress()->set_block(block);
    event.mutable_progress()->set_block_count(3);
    event.mutable_progress()->set_parameters_per_second(2e6);
    event.mutable_progress()->mutable_eta()->set_seconds(125);
    return event;
  }
  static v1::JobEvent Group(double loss_rtn, double loss) {
    v1::JobEvent event;
    *event.mutable_group_report() = GroupReportOf("g", loss_rtn, loss, false);
    return event;
  }

  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{std::tmpfile(), &std::fclose};
};

TEST_F(JobDisplayTest, WithoutATerminalEveryBlockIsALine) {
  {
    JobDisplay display(file_.get(), ProgressStyle::kLines);
    display.Take(Block(0));
    display.Take(Block(0));
    display.Take(Group(4, 1));
    display.Take(Block(1));
    v1::JobEvent warning;
    warning.set_warning("odd\x1b[2J");
    display.Take(warning);
    display.Take(Group(4, 3));
    display.Take(Block(2));
    v1::JobEvent done;
    done.set_state_changed(v1::JOB_STATE_SUCCEEDED);
    display.Take(done);
  }
  EXPECT_EQ(Text(),
            "block 1 of 3 done, loss/RTN 0.250, 2.00 M parameters/s, 2 min 5 s left\n"
            "warning: odd [2J\n"
            "block 2 of 3 done, loss/RTN 0.500, 2.00 M parameters/s, 2 min 5 s left\n"
            "block 3 of 3 done, loss/RTN 0.500, 2.00 M parameters/s\n");
}

TEST_F(JobDisplayTest, BarShowsBlockAndBytes) {
  {
    JobDisplay display(file_.get(), ProgressStyle::kBar);
    display.Expect(JobDisplay::Way::kUpload, 2048);
    display.Add(JobDisplay::Way::kUpload, 1024);
    display.Take(Block(1));
  }
  const std::string text = Text();
  EXPECT_THAT(text.substr(text.rfind('\r')),
              AllOf(HasSubstr("block 2 of 3, 2 min 5 s left [########......"),
                    HasSubstr("] quantizing, 2.00 M parameters/s"),
                    HasSubstr("uploaded 1.00 KiB of 2.00 KiB"), EndsWith("\n")));
}

TEST_F(JobDisplayTest, BarOfAJobThatSucceededIsFull) {
  {
    JobDisplay display(file_.get(), ProgressStyle::kBar);
    display.Take(Block(2));
    v1::JobEvent done;
    done.set_state_changed(v1::JOB_STATE_SUCCEEDED);
    display.Take(done);
  }
  const std::string text = Text();
  EXPECT_THAT(
      text.substr(text.rfind('\r')),
      AllOf(HasSubstr("block 3 of 3 [########################] done"), Not(HasSubstr("left"))));
}

TEST_F(JobDisplayTest, TheLastByteIsShownHoweverSoonItComes) {
  {
    JobDisplay display(file_.get(), ProgressStyle::kBar);
    display.Expect(JobDisplay::Way::kUpload, 2048);
    display.Add(JobDisplay::Way::kUpload, 1024);
    display.Add(JobDisplay::Way::kUpload, 1024);
    display.Say("end");
  }
  // The end draws once more, so what counts is what stands before it.
  const std::string text = Text();
  EXPECT_THAT(text.substr(0, text.find("end")), HasSubstr("\rwaiting"));
}

TEST_F(JobDisplayTest, TheSecondRunOfAModelSaysWhatItIs) {
  {
    JobDisplay display(file_.get(), ProgressStyle::kLines);
    display.Take(Block(2));
    v1::JobEvent again = Block(0);
    again.mutable_progress()->set_stage(v1::Progress::STAGE_EVALUATE);
    display.Take(again);
    again.mutable_progress()->set_block(1);
    display.Take(again);
  }
  EXPECT_EQ(Text(),
            "block 2 of 3 done, 2.00 M parameters/s, 2 min 5 s left\n"
            "block 1 of 3 done, evaluating, 2.00 M parameters/s, 2 min 5 s left\n");
}

TEST_F(JobDisplayTest, UntouchedDisplayPrintsNothing) {
  { JobDisplay display(file_.get(), ProgressStyle::kBar); }
  EXPECT_EQ(Text(), "");
}

}  // namespace
}  // namespace salient::client
