#include "client/report/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "core/config/json.h"

namespace salient::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

v1::Job SomeJob() {
  v1::Job job;
  job.set_name("jobs/j");
  job.mutable_spec()->mutable_study();
  v1::Study& study = *job.mutable_study();
  study.mutable_source()->set_perplexity(8);
  study.mutable_source()->set_token_count(510);
  int number = 0;
  for (const v1::SalientChoice choice :
       {v1::SALIENT_CHOICE_NONE, v1::SALIENT_CHOICE_WEIGHT, v1::SALIENT_CHOICE_RANDOM,
        v1::SALIENT_CHOICE_ACTIVATION}) {
    v1::Study::Row& row = *study.add_rows();
    row.set_choice(choice);
    row.mutable_score()->set_perplexity(12 - number);
    row.mutable_score()->set_kl(0.4 - 0.1 * number);
    row.mutable_score()->set_top1_agreement(0.5 + 0.1 * number);
    row.set_relative_output_error(0.04 - 0.01 * number);
    ++number;
  }
  return job;
}

JsonValue Parse(const std::string& text) {
  auto value = ParseJson("output", text);
  EXPECT_TRUE(value.ok()) << value.status() << text;
  return value.ok() ? *std::move(value) : JsonValue();
}

double NumberAt(const JsonValue& object, absl::string_view key) {
  const JsonValue* found = object.Find(key);
  return found != nullptr ? found->AsDouble().value_or(std::nan("")) : std::nan("");
}

TEST(StudyReportTest, ALineAChoiceBesideTheSource) {
  const v1::Job job = SomeJob();
  EXPECT_THAT(
      StudyTable(job.spec().study(), job.study()),
      AllOf(HasSubstr("all (source)"), HasSubstr("8.00000"), HasSubstr("none (round-to-nearest)"),
            HasSubstr("12.00000"), HasSubstr("1 % by weight"), HasSubstr("1 % at random"),
            HasSubstr("1 % by activation"), HasSubstr("0.100000"), HasSubstr("80.00 %"),
            HasSubstr("0.010000"), HasSubstr("3 bits, a scale for 128 columns")));
}

TEST(StudyReportTest, TheTableSaysWhatWasAsked) {
  v1::Job job = SomeJob();
  v1::StudyTask& task = *job.mutable_spec()->mutable_study();
  task.set_salient_share(0.005);
  task.mutable_format()->set_group_size(-1);
  task.mutable_format()->set_symmetric(true);
  job.mutable_study()->mutable_rows(3)->set_choice(static_cast<v1::SalientChoice>(9));
  EXPECT_THAT(StudyTable(task, job.study()),
              AllOf(HasSubstr("0.5 % by weight"), HasSubstr("4 bits, symmetric, a scale for a row"),
                    HasSubstr("choice_9")));
}

TEST(StudyReportTest, JsonHasEveryFieldPromised) {
  const JsonValue json = Parse(StudyJson(2.5, SomeJob()));
  EXPECT_EQ(*json.Find("job")->AsString(), "jobs/j");
  EXPECT_EQ(NumberAt(*json.Find("source"), "perplexity"), 8);
  EXPECT_EQ(NumberAt(*json.Find("none"), "perplexity"), 12);
  EXPECT_EQ(NumberAt(*json.Find("weight"), "kl"), 0.4 - 0.1);
  EXPECT_EQ(NumberAt(*json.Find("random"), "top1_agreement"), 0.5 + 0.1 * 2);
  EXPECT_EQ(NumberAt(*json.Find("activation"), "relative_error"), 0.04 - 0.01 * 3);
  EXPECT_EQ(NumberAt(json, "salient_share"), 0.01);
  EXPECT_EQ(NumberAt(json, "bits"), 3);
  EXPECT_EQ(NumberAt(json, "group_size"), 128);
  EXPECT_EQ(NumberAt(json, "tokens"), 510);
  EXPECT_EQ(NumberAt(json, "seconds"), 2.5);
}

}  // namespace
}  // namespace salient::client
