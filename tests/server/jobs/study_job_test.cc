#include "server/jobs/study_job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/parallel/executor.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using testing::JobBench;
using testing::MakeTokens;
using testing::Must;

class QuietStudy final : public StudyObserver {
 public:
  absl::Status Kept(const std::string&, const std::string&) override { return absl::OkStatus(); }
  absl::Status Calibrated(int64_t, int64_t) override { return absl::OkStatus(); }
  absl::Status Evaluates() override { return absl::OkStatus(); }
  absl::Status TokensDone(int64_t, int64_t) override { return absl::OkStatus(); }
};

// Returns what tells studies apart.
std::vector<double> NumbersOfStudy(const ModelStudy& study) {
  std::vector<double> numbers = {study.source.likelihood.negative_log_likelihood};
  for (const StudyRow& row : study.rows) {
    numbers.push_back(static_cast<double>(row.choice));
    numbers.push_back(row.evaluation.likelihood.negative_log_likelihood);
    numbers.push_back(row.evaluation.divergence.kl);
    numbers.push_back(row.relative_output_error);
  }
  return numbers;
}

class StudyJobTest : public testing::JobTest {
 protected:
  StudyJobTest() {
    bench_.WriteModel("m", model_);
    EXPECT_TRUE(bench_.Send(tokens_).ok());
    EXPECT_TRUE(bench_.Send(evaluation_).ok());
  }

  JobSpec Spec(ModelSource model) const {
    StudyTask task;
    task.calibration.tokens = DigestOf(tokens_);
    task.evaluation.tokens = DigestOf(evaluation_);
    task.params.salient_share = 0.1;
    task.params.format.group_size = 16;
    return JobBench::Spec(std::move(model), task);
  }

  const std::string evaluation_ = MakeTokens(2, 30, 40, 12);
};

TEST_F(StudyJobTest, GivesWhatTheCoreGivesForPathsAndForBlobs) {
  const testing::ModelOnDisk model((bench_.directory() / "models" / "m").string());
  StudyModelParams params = ToStudyModelParams(std::get<StudyTask>(Spec({}).task));
  params.work_directory = bench_.directory().string();
  QuietStudy quiet;
  SerialExecutor executor;
  const ModelStudy expected =
      Must(StudyModel(model.checkpoint, model.plan, testing::RowsOf(tokens_),
                      testing::RowsOf(evaluation_), params, quiet, executor));
  ASSERT_GT(expected.rows[0].evaluation.divergence.kl, 0);

  bench_.SendAll(model_);
  for (const ModelSource& source : {ModelSource{{}, "m"}, JobBench::Manifest(model_),
                                    JobBench::Manifest(model_, /*with_headers=*/true)}) {
    const JobSnapshot job = Run(Spec(source));
    ASSERT_TRUE(job.study.has_value());
    EXPECT_EQ(NumbersOfStudy(*job.study), NumbersOfStudy(expected));
    EXPECT_FALSE(job.evaluation.has_value());
    EXPECT_TRUE(job.files.empty());
    EXPECT_GT(job.usage.bytes_in, 0);
    EXPECT_EQ(job.usage.parameters, testing::ParametersOf({}));
    EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
  }
}

TEST_F(StudyJobTest, IsEstimatedBeforeAndToldWhileItRuns) {
  const JobSnapshot submitted = bench_.Submit(Spec(ModelSource{{}, "m"}));
  EXPECT_GT(submitted.estimate.seconds, 0);
  EXPECT_GT(submitted.estimate.flop, 0);
  EXPECT_GT(submitted.estimate.peak_memory_bytes, 0);
  EXPECT_EQ(submitted.estimate.output_bytes, 0);
  EXPECT_EQ(submitted.numerics_id.find("bf16") == std::string::npos, false)
      << submitted.numerics_id;
  const std::vector<JobEvent> events = bench_.WatchToEnd(submitted.name);
  const auto calibrates = [](const JobEvent& event) {
    const auto* progress = std::get_if<JobProgress>(&event.what);
    return progress != nullptr && progress->stage == JobProgress::Stage::kCalibrate &&
           progress->block_count == 3;
  };
  EXPECT_TRUE(std::any_of(events.begin(), events.end(), calibrates));
}

TEST_F(StudyJobTest, WaitsInTheQueueUntilEverythingIsThere) {
  const std::string late = MakeTokens(2, 25, 40, 13);
  JobSpec spec = Spec(ModelSource{{}, "m"});
  std::get<StudyTask>(spec.task).evaluation.tokens = DigestOf(late);
  const std::string name = bench_.Submit(spec).name;
  const JobSnapshot queued = Must(bench_.table().Get(name));
  EXPECT_EQ(queued.state, JobState::kQueued);
  EXPECT_EQ(queued.missing, std::vector<Digest>{DigestOf(late)});
  ASSERT_TRUE(bench_.Send(late).ok());
  EXPECT_EQ(bench_.Finish(name).state, JobState::kSucceeded);
}

TEST_F(StudyJobTest, AGroupThatIsNotRoundedIsAWarning) {
  JobSpec spec = Spec(ModelSource{{}, "m"});
  std::get<StudyTask>(spec.task).params.format.group_size = 32;  // Down_proj has 48 inputs.
  const std::vector<std::string> warnings = Warnings(bench_.Submit(spec).name);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0].find("mlp.down_proj is not quantized: "), 0u) << warnings[0];
}

struct Refused {
  const char* name;
  void (*spoil)(StudyTask&);
  Reason reason;
  const char* field;
  const char* says;
};

class RefusedStudyTest : public StudyJobTest, public ::testing::WithParamInterface<Refused> {};

constexpr Refused kRefused[] = {
    {"Share", [](StudyTask& t) { t.params.salient_share = 1.5; }, Reason::kBadJob,
     "study.salient_share", "salient_share is 1.5; expected 0 to 1"},
    {"NoNumber",
     [](StudyTask& t) { t.params.salient_share = std::numeric_limits<double>::quiet_NaN(); },
     Reason::kBadJob, "study.salient_share", "salient_share is nan"},
    {"Bits", [](StudyTask& t) { t.params.format.bits = 9; }, Reason::kBadFormat, "study.format",
     "bits is 9"},
    {"GroupSize", [](StudyTask& t) { t.params.format.group_size = 7; }, Reason::kBadFormat,
     "study.format", "nothing to quantize"},
    {"Rows", [](StudyTask& t) { t.evaluation.max_rows = -1; }, Reason::kBadTokens,
     "study.evaluation.tokens", "max_rows is -1"},
};

INSTANTIATE_TEST_SUITE_P(Tasks, RefusedStudyTest, ::testing::ValuesIn(kRefused),
                         [](const auto& refused) { return std::string(refused.param.name); });

TEST_P(RefusedStudyTest, BeforeItIsAJob) {
  JobSpec spec = Spec(ModelSource{{}, "m"});
  GetParam().spoil(std::get<StudyTask>(spec.task));
  const absl::Status status = bench_.table().Submit(spec, "", "", false).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(Name(DetailsOf(status).reason), Name(GetParam().reason)) << status;
  EXPECT_EQ(DetailsOf(status).field, GetParam().field);
  EXPECT_NE(std::string(status.message()).find(GetParam().says), std::string::npos) << status;
}

TEST_F(StudyJobTest, TokensOfAnotherVocabularyAreNamed) {
  const std::string wrong = MakeTokens(2, 25, 60, 13);
  ASSERT_TRUE(bench_.Send(wrong).ok());
  for (const bool calibrates : {true, false}) {
    JobSpec spec = Spec(ModelSource{{}, "m"});
    auto& task = std::get<StudyTask>(spec.task);
    (calibrates ? task.calibration : task.evaluation).tokens = DigestOf(wrong);
    const absl::Status status = bench_.table().Submit(spec, "", "", false).status();
    EXPECT_EQ(DetailsOf(status).reason, Reason::kBadTokens) << status;
    EXPECT_EQ(DetailsOf(status).field,
              calibrates ? "study.calibration.tokens" : "study.evaluation.tokens");
  }
}

// A row of one token predicts nothing, but says which channels are salient.
TEST_F(StudyJobTest, RowsOfOneTokenAreNotScored) {
  const std::string single = MakeTokens(2, 1, 40, 13);
  JobSpec spec = Spec(ModelSource{{}, "m"});
  auto& task = std::get<StudyTask>(spec.task);
  task.calibration.tokens = DigestOf(single);
  task.evaluation.tokens = DigestOf(single);
  const std::string late = bench_.Submit(spec).name;  // The tokens are judged when they come.
  ASSERT_TRUE(bench_.Send(single).ok());
  const JobSnapshot failed = bench_.Finish(late);
  EXPECT_EQ(failed.state, JobState::kFailed);
  for (const absl::Status& status :
       {failed.error, bench_.table().Submit(spec, "", "", false).status()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(DetailsOf(status).reason, Reason::kBadTokens) << status;
    EXPECT_EQ(DetailsOf(status).field, "study.evaluation.tokens");
    EXPECT_NE(status.message().find("row 0 has 1 tokens; expected at least 2"),
              absl::string_view::npos)
        << status;
  }
}

}  // namespace
}  // namespace salient
