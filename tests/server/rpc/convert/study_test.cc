#include "server/rpc/convert/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "core/model/activations.h"
#include "core/study/study_block.h"
#include "core/study/study_model.h"
#include "core/tensor/affine_groups.h"
#include "server/error/call_error.h"
#include "tests/server/rpc/convert/job_spec_messages.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::SomeDigest;

v1::StudyTask SomeTask() {
  v1::StudyTask task;
  *task.mutable_calibration()->mutable_tokens() = SomeDigest(7);
  *task.mutable_evaluation()->mutable_tokens() = SomeDigest(9);
  return task;
}

TEST(ConvertStudyTest, UnsetFieldsAreTheContractsDefaults) {
  const auto task = ToStudy("spec.study", SomeTask());
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->calibration.tokens.size_bytes, 7);
  EXPECT_EQ(task->evaluation.tokens.size_bytes, 9);
  EXPECT_EQ(task->params.salient_share, 0.01);
  EXPECT_EQ(task->params.format.bits, 3);
  EXPECT_EQ(task->params.format.group_size, 128);
  EXPECT_FALSE(task->params.format.symmetric);
  EXPECT_EQ(task->params.seed, 0u);
  EXPECT_EQ(task->compute, ComputeDType::kBF16);
}

TEST(ConvertStudyTest, EveryFieldArrives) {
  v1::StudyTask message = SomeTask();
  message.mutable_calibration()->set_max_rows(3);
  message.mutable_evaluation()->set_max_rows(4);
  message.set_salient_share(1);
  message.mutable_format()->set_bits(2);
  message.mutable_format()->set_group_size(-1);
  message.mutable_format()->set_symmetric(true);
  message.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_GPTQ_V2);  // It is not read.
  message.set_compute_dtype(v1::COMPUTE_DTYPE_F32);
  message.set_seed(~uint64_t{0});
  const auto task = ToStudy("spec.study", message);
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->calibration.max_rows, 3);
  EXPECT_EQ(task->evaluation.max_rows, 4);
  EXPECT_EQ(task->params.salient_share, 1);
  EXPECT_EQ(task->params.format.bits, 2);
  EXPECT_EQ(task->params.format.group_size, kWholeRow);
  EXPECT_TRUE(task->params.format.symmetric);
  EXPECT_EQ(task->params.seed, ~uint64_t{0});
  EXPECT_EQ(task->compute, ComputeDType::kF32);
}

struct RefusedStudy {
  const char* name;
  void (*spoil)(v1::StudyTask&);
  Reason reason;
  const char* field;
  const char* says;
};

constexpr RefusedStudy kRefusedStudy[] = {
    {"NoCalibration", [](v1::StudyTask& t) { t.clear_calibration(); }, Reason::kBadJob,
     "spec.study.calibration", "not set"},
    {"NoEvaluation", [](v1::StudyTask& t) { t.clear_evaluation(); }, Reason::kBadJob,
     "spec.study.evaluation", "the tokens to score"},
    {"NoDigest", [](v1::StudyTask& t) { t.mutable_evaluation()->clear_tokens(); },
     Reason::kBadDigest, "spec.study.evaluation.tokens", "sha256"},
    {"Rows", [](v1::StudyTask& t) { t.mutable_calibration()->set_max_rows(-1); }, Reason::kBadJob,
     "spec.study.calibration.max_rows", "-1"},
    {"ShareBelow", [](v1::StudyTask& t) { t.set_salient_share(-0.5); }, Reason::kBadJob,
     "spec.study.salient_share", "-0.5; expected 0 to 1"},
    {"ShareAbove", [](v1::StudyTask& t) { t.set_salient_share(1.5); }, Reason::kBadJob,
     "spec.study.salient_share", "1.5"},
    {"ShareNoNumber",
     [](v1::StudyTask& t) { t.set_salient_share(std::numeric_limits<double>::quiet_NaN()); },
     Reason::kBadJob, "spec.study.salient_share", "nan"},
    {"Bits", [](v1::StudyTask& t) { t.mutable_format()->set_bits(9); }, Reason::kBadFormat,
     "spec.study.format.bits", "2 to 8"},
    {"GroupSize", [](v1::StudyTask& t) { t.mutable_format()->set_group_size(-3); },
     Reason::kBadFormat, "spec.study.format.group_size", "-3"},
    {"WholeTensor", [](v1::StudyTask& t) { t.mutable_format()->set_group_size(-2); },
     Reason::kBadFormat, "spec.study.format.group_size", "-2"},
    {"Activations",
     [](v1::StudyTask& t) {
       t.mutable_format()->set_activations(v1::ACTIVATION_FORMAT_DYNAMIC_TOKEN);
     },
     Reason::kBadFormat, "spec.study.format.activations", "weights alone"},
    {"Compute", [](v1::StudyTask& t) { t.set_compute_dtype(static_cast<v1::ComputeDtype>(77)); },
     Reason::kBadJob, "spec.study.compute_dtype", "77"},
};

class RefusedStudyTaskTest : public ::testing::TestWithParam<RefusedStudy> {};
INSTANTIATE_TEST_SUITE_P(Tasks, RefusedStudyTaskTest, ::testing::ValuesIn(kRefusedStudy),
                         [](const auto& refused) { return std::string(refused.param.name); });

TEST_P(RefusedStudyTaskTest, NamesTheFieldTheValueAndWhatWasExpected) {
  v1::StudyTask message = SomeTask();
  GetParam().spoil(message);
  const absl::Status status = ToStudy("spec.study", message).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  const CallErrorDetails details = DetailsOf(status);
  EXPECT_EQ(Name(details.reason), Name(GetParam().reason)) << status;
  EXPECT_EQ(details.field, GetParam().field);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().says));
}

TEST(ConvertStudyTest, AStudyBecomesItsMessage) {
  ModelStudy study;
  study.source.likelihood.tokens = 10;
  study.source.likelihood.negative_log_likelihood = 20;
  for (size_t c = 0; c < kStudiedChoices; ++c) {
    StudyRow& row = study.rows[c];
    row.choice = kSalientChoices[c];
    row.evaluation = study.source;
    row.evaluation.divergence.tokens = 10;
    row.evaluation.divergence.kl = 1 + static_cast<double>(c);
    row.relative_output_error = 0.25 * static_cast<double>(c);
  }
  const v1::Study message = ToProto(study);
  EXPECT_EQ(message.source().token_count(), 10);
  ASSERT_EQ(message.rows_size(), 4);
  constexpr v1::SalientChoice kOrder[] = {v1::SALIENT_CHOICE_NONE, v1::SALIENT_CHOICE_WEIGHT,
                                          v1::SALIENT_CHOICE_RANDOM, v1::SALIENT_CHOICE_ACTIVATION};
  for (int c = 0; c < 4; ++c) {
    EXPECT_EQ(message.rows(c).choice(), kOrder[c]);
    EXPECT_DOUBLE_EQ(message.rows(c).score().kl(), (1 + c) / 10.0);
    EXPECT_EQ(message.rows(c).relative_output_error(), 0.25 * c);
  }
}

}  // namespace
}  // namespace salient
