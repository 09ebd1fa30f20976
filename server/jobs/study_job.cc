#include "server/jobs/study_job.h"

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/model/model_config.h"
#include "core/cost/study_cost.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_sources.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/token_blob.h"
#include "server/process/memory.h"

namespace salient {
namespace {

using TokenRows = std::vector<std::vector<int64_t>>;

int64_t Count(const TokenRows& rows) {
  const std::vector<int64_t> tokens = RowTokens(rows);
  return std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
}

class StudyProgress final : public StudyObserver {
 public:
  StudyProgress(RunningJob& job, int64_t evaluation_tokens)
      : job_(job), evaluation_tokens_(evaluation_tokens) {}

  absl::Status Kept(const std::string& group, const std::string& why) override {
    job_.observer.Happened(JobWarning{absl::StrCat(group, " is not quantized: ", why)});
    return job_.stop.Check();
  }

  absl::Status Calibrated(int64_t block, int64_t tokens) override {
    job_.progress.TokensDone(JobProgress::Stage::kCalibrate, block, tokens);
    return job_.stop.Check();
  }

  absl::Status Evaluates() override {
    TrimFreeMemory();
    // The head counts as one more block.
    job_.progress.Begin(JobProgress::Stage::kEvaluate,
                        job_.prepared.model.config().num_hidden_layers + 1, evaluation_tokens_,
                        /*parameters_a_block=*/0);
    return job_.stop.Check();
  }

  absl::Status TokensDone(int64_t block, int64_t tokens) override {
    job_.progress.TokensDone(JobProgress::Stage::kEvaluate, block, tokens);
    return job_.stop.Check();
  }

 private:
  RunningJob& job_;
  const int64_t evaluation_tokens_;
};

absl::StatusOr<TokenRows> Read(const char* what, const TokenBlob& tokens, const TokenNeeds& needs,
                               RunningJob& job) {
  absl::StatusOr<TokenRows> rows = ReadTokens(tokens, needs, job.store);
  if (rows.ok()) return rows;
  return WithField(rows.status(), absl::StrCat("study.", what, ".tokens"));
}

// Returns what is left of the work when the channels are chosen.
absl::StatusOr<double> EvaluationShare(const RunningJob& job, const TokenRows& calibration,
                                       const TokenRows& evaluation,
                                       const StudyModelParams& params) {
  const absl::StatusOr<StudyCost> cost =
      CostOfStudying(job.prepared.model.model(), RowTokens(calibration), RowTokens(evaluation),
                     params, job.executor.Concurrency());
  if (!cost.ok()) return WithModelReason(cost.status());
  return cost->evaluation_share;
}

}  // namespace

StudyModelParams ToStudyModelParams(const StudyTask& task) {
  StudyModelParams params;
  params.block = task.params;
  params.compute = task.compute;
  return params;
}

absl::StatusOr<JobOutcome> RunStudyJob(RunningJob& job, absl::FunctionRef<void()> verified) {
  const auto& task = std::get<StudyTask>(job.spec.task);
  const ModelConfig& config = job.prepared.model.config();
  if (absl::Status arrived = WaitForSources(job); !arrived.ok()) return arrived;
  const absl::StatusOr<TokenRows> calibration =
      Read("calibration", task.calibration, ToRun(config), job);
  if (!calibration.ok()) return calibration.status();
  const absl::StatusOr<TokenRows> evaluation =
      Read("evaluation", task.evaluation, ToScore(config), job);
  if (!evaluation.ok()) return evaluation.status();

  const absl::StatusOr<OpenModel> model =
      OpenWholeModel(job.prepared.model, job.store, job.arrival);
  if (!model.ok()) return model.status();
  verified();

  StudyModelParams params = ToStudyModelParams(task);
  params.work_directory = job.work_directory;
  const absl::StatusOr<double> evaluation_share =
      EvaluationShare(job, *calibration, *evaluation, params);
  if (!evaluation_share.ok()) return evaluation_share.status();
  job.progress.Begin(JobProgress::Stage::kCalibrate, config.num_hidden_layers, Count(*calibration),
                     /*parameters_a_block=*/0, *evaluation_share);
  StudyProgress observer(job, Count(*evaluation));
  absl::StatusOr<ModelStudy> study =
      StudyModel(*model->source, job.prepared.model.model(), *calibration, *evaluation, params,
                 observer, job.executor);
  if (!study.ok()) return WithModelReason(study.status());
  JobOutcome outcome;
  outcome.parameters = CountParameters(job.prepared.model.model());
  outcome.bytes_in = model->tensor_bytes;
  outcome.study = *std::move(study);
  return outcome;
}

}  // namespace salient
