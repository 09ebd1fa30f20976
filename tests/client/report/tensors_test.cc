#include "client/report/tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/config/json.h"

namespace salient::client {
namespace {

using ::testing::HasSubstr;

v1::ScaleCandidate Candidate(bool weight_aware, double ratio) {
  v1::ScaleCandidate candidate;
  candidate.set_weight_aware(weight_aware);
  candidate.set_ratio(ratio);
  return candidate;
}

v1::GroupReport LinearReport() {
  v1::GroupReport report;
  report.set_name("qkv");
  *report.mutable_candidate() = Candidate(true, 0.45);
  report.set_loss_rtn(4);
  report.set_loss(1.75);
  report.set_relative_output_error(0.0125);
  report.set_parameters(96);
  report.set_seconds(0.5);
  for (const char* name : {"q", "k"}) {
    v1::LinearReport& linear = *report.add_linears();
    linear.set_name(name);
    linear.set_bytes_in(2048);
    linear.set_bytes_out(512);
  }
  report.add_notes("a \"note\"");
  return report;
}

TEST(TensorsReportTest, RatioIsWrittenAsTheScaleItStandsFor) {
  EXPECT_EQ(RatioText(Candidate(false, 0.45)), "x^0.45");
  EXPECT_EQ(RatioText(Candidate(true, 0.45)), "x^0.45/w^0.55");
  EXPECT_EQ(RatioText(Candidate(true, 1)), "x^1/w^0");
  v1::ScaleCandidate smooth = Candidate(true, 0.45);
  smooth.set_smoothquant(true);
  EXPECT_EQ(RatioText(smooth), "smoothquant 0.45");
  v1::ScaleCandidate identity;
  identity.set_identity(true);
  EXPECT_EQ(RatioText(identity), "identity");
}

TEST(TensorsReportTest, LossOfNothingHasNoRatio) {
  v1::GroupReport report;
  EXPECT_EQ(LossOverRtnText(report), "-");
  EXPECT_EQ(LossOverRtnText(LinearReport()), "0.438");
}

TEST(TensorsReportTest, TableShowsSumsOfLinearsAndNotes) {
  const std::string text = GroupTable({LinearReport()});
  for (const char* part : {"qkv", "x^0.45/w^0.55", "1.75", "0.438", "0.01250", "4.00 KiB",
                           "1.00 KiB", "0.50", "note: qkv: a \"note\"\n"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(TensorsReportTest, JsonHasEveryPromisedField) {
  v1::GroupReport kept = LinearReport();
  for (auto& linear : *kept.mutable_linears()) linear.set_kept_rtn(true);
  kept.set_fold_error(1.25e-7);
  const std::string text = ResultJson("out.safetensors", 1.5, {LinearReport(), kept});
  const auto json = ParseJson("result", text);
  ASSERT_TRUE(json.ok()) << json.status() << text;
  EXPECT_EQ(*json->Find("output")->AsString(), "out.safetensors");
  EXPECT_EQ(json->Find("parameters")->AsInt64(), 192);
  EXPECT_EQ(json->Find("bytes_in")->AsInt64(), 8192);
  EXPECT_EQ(json->Find("bytes_out")->AsInt64(), 2048);
  EXPECT_EQ(json->Find("seconds")->AsDouble(), 1.5);
  const JsonValue::Array& groups = *json->Find("groups")->AsArray();
  ASSERT_EQ(groups.size(), 2u);
  for (const char* name :
       {"name", "linears", "candidate", "ratio", "loss_rtn", "loss", "relative_output_error",
        "relative_output_error_rtn", "bytes_in", "bytes_out", "seconds", "kept_rtn", "notes"}) {
    EXPECT_NE(groups[0].Find(name), nullptr) << name;
  }
  EXPECT_EQ(*groups[0].Find("linears")->AsArray()->at(1).AsString(), "k");
  EXPECT_EQ(groups[0].Find("candidate")->Find("ratio")->AsDouble(), 0.45);
  EXPECT_EQ(*groups[0].Find("notes")->AsArray()->at(0).AsString(), "a \"note\"");
  EXPECT_FALSE(*groups[0].Find("kept_rtn")->AsBool());
  EXPECT_TRUE(*groups[1].Find("kept_rtn")->AsBool());
  EXPECT_EQ(groups[0].Find("fold_error"), nullptr) << "It is left out where nothing was folded.";
  EXPECT_EQ(groups[1].Find("fold_error")->AsDouble(), 1.25e-7);
}

}  // namespace
}  // namespace salient::client
