#include "server/jobs/quantize_job.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/tensor_source.h"
#include "core/model/block_weights.h"
#include "core/model/model.h"
#include "core/model/own_head.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/result/left_out_tensors.h"
#include "core/result/outer_tensors.h"
#include "core/result/plain_dtypes.h"
#include "core/result/quantized_checkpoint.h"
#include "core/result/raised_group.h"
#include "core/safetensors/layout.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/jobs/arriving_checkpoint.h"
#include "server/jobs/job.h"
#include "server/jobs/job_output.h"
#include "server/jobs/job_sources.h"
#include "server/jobs/model_manifest.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/quantize_params.h"
#include "server/jobs/quantize_sink.h"
#include "server/jobs/token_blob.h"

namespace salient {
namespace {

int64_t ParametersOf(const RunningJob& job) { return job.prepared.outputs[0].plan.parameters; }

// Makes the plans by output for a source with these dtypes; a limit of error made `raised`.
absl::StatusOr<std::vector<QuantizedCheckpointPlan>> MakePlans(
    const RunningJob& job, const PlainDTypes& dtypes, const std::vector<RaisedGroup>& raised) {
  const auto& task = std::get<QuantizeTask>(job.spec.task);
  std::vector<QuantizedCheckpointPlan> plans;
  for (size_t i = 0; i < job.prepared.outputs.size(); ++i) {
    const PreparedModel& model = job.prepared.model;
    absl::StatusOr<QuantizedCheckpointPlan> plan = PlanQuantizedCheckpoint(
        model.model(), model.manifest.config_json, CheckpointParams(task, i, dtypes, raised));
    if (!plan.ok()) {
      if (raised.empty()) return WithModelReason(plan.status());
      return WithField(WithReason(plan.status(), Reason::kBadJob), "quantize.max_relative_error");
    }
    plans.push_back(*std::move(plan));
  }
  return plans;
}

int64_t QuantizedLinears(const QuantizeTask& task, int64_t linears_a_result,
                         const std::vector<QuantizedCheckpointPlan>& plans) {
  int64_t count = 0;
  for (size_t i = 0; i < plans.size(); ++i) {
    if (task.formats[i].output == OutputFormat::kScaledFp16) continue;
    count += linears_a_result - static_cast<int64_t>(plans[i].kept.size());
  }
  return count;
}

// Tells what was not told when the job was submitted, because the headers were not there.
void WarnOfLeftOut(RunningJob& job, absl::Span<const std::string> names) {
  const PreparedModel& model = job.prepared.model;
  const std::vector<std::string>& told = job.prepared.warnings;
  for (std::string& text : LeftOutTensors(names, model.model(), model.manifest.config_json)) {
    if (std::find(told.begin(), told.end(), text) != told.end()) continue;
    job.observer.Happened(JobWarning{std::move(text)});
  }
}

// Finds out whether a head that the config ties is one of its own, which the results then have.
// Until it is known, nobody can say what they consist of, so this waits for it where it is
// arriving.
absl::Status SettleHeadOfResults(RunningJob& job, const TensorSource& source) {
  PreparedModel& model = job.prepared.model;
  if (model.config().own_head) return absl::OkStatus();  // It was known when the job came.
  absl::Status status = SettleHead(source, HeadComparison::kWhole, model);
  if (!status.ok()) return WithModelReason(status);
  if (!model.config().own_head) return absl::OkStatus();
  job.observer.Happened(JobWarning{OwnHeadWarning(model.config())});
  return absl::OkStatus();
}

// Removes the hidden states of a run, which the next one would continue from.
absl::Status ClearDirectory(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (!error) std::filesystem::remove_all(entry.path(), error);
  }
  if (!error) return absl::OkStatus();
  return WithReason(absl::ErrnoToStatus(error.value(), "cannot clear the work directory"),
                    Reason::kInternal);
}

// Waits for all files but config and index, which may be inline alone.
absl::Status WaitForModel(RunningJob& job) {
  const ModelManifest& manifest = job.prepared.model.manifest;
  for (const std::vector<ModelFile>* files : {&manifest.weights, &manifest.carried}) {
    for (const ModelFile& file : *files) {
      absl::Status status = job.arrival.WaitUntilComplete(file.name, file.digest);
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

// This is what was computed: all but the files.
struct Computed {
  JobOutcome outcome;
  std::unique_ptr<JobOutput> output;
};

// Does all of the work but the files: computes tensors, and copies those that pass unchanged.
absl::StatusOr<Computed> Compute(RunningJob& job, const std::vector<std::vector<int64_t>>& rows,
                                 const OpenModel& model) {
  const auto& task = std::get<QuantizeTask>(job.spec.task);
  const Model& planned = job.prepared.model.model();
  absl::Status status;
  if (model.arriving != nullptr) {
    status = model.arriving->WaitForHeaders();
    // It is checked as at submission, if the headers were not there then.
    if (status.ok()) status = WithModelReason(CheckModelTensors(*model.source, planned));
    if (!status.ok()) return status;
    WarnOfLeftOut(job, model.arriving->TensorNames());
  }
  if (status = SettleHeadOfResults(job, *model.source); !status.ok()) return status;
  PlainDTypes dtypes = PlainDTypesOf(*model.source, planned);
  absl::StatusOr<std::vector<QuantizedCheckpointPlan>> plans = MakePlans(job, dtypes, {});
  if (!plans.ok()) return plans.status();
  absl::StatusOr<std::unique_ptr<JobOutput>> output = OpenOutput(job, *plans);
  if (!output.ok()) return output.status();

  QuantizeSink sink(job, task.compute, dtypes, *model.source, model.arriving, **output);
  if (status = sink.WaitForBlock(0); !status.ok()) return status;
  if (status = sink.CheckOuterTensors(); !status.ok()) return WithModelReason(status);
  const auto blocks = static_cast<int64_t>(planned.blocks.size());
  const std::vector<int64_t> row_tokens = RowTokens(rows);
  job.progress.Begin(JobProgress::Stage::kCalibrate, blocks,
                     std::accumulate(row_tokens.begin(), row_tokens.end(), int64_t{0}),
                     ParametersOf(job) * static_cast<int64_t>(task.formats.size()) / blocks);
  QuantizeModelParams params = ModelParams(task);
  params.work_directory = job.work_directory;
  status = QuantizeModel(*model.source, planned, rows, params, sink, job.executor);
  if (status.ok()) status = sink.WaitForWriting();
  if (!status.ok()) return WithModelReason(status);

  job.progress.Writes();
  const StageScope stage(job.executor, Stage::kWrite);
  if (dtypes.came_in_f32 && sink.range().NearsF16()) dtypes.config = DType::kBF16;
  plans = MakePlans(job, dtypes, sink.raised());
  if (!plans.ok()) return plans.status();
  JobOutcome outcome;
  outcome.parameters = ParametersOf(job);
  const int64_t linears = planned.LinearCount();
  outcome.linear_count = linears * static_cast<int64_t>(plans->size());
  outcome.quantized_linear_count = QuantizedLinears(task, linears, *plans);
  if (status = (*output)->Settle(*std::move(plans)); !status.ok()) return status;
  status = CopyOuterTensors(*model.source, planned,
                            [&](const TensorShape& tensor, int64_t offset,
                                absl::Span<const std::byte> bytes) -> absl::Status {
                              if (absl::Status stopped = job.stop.Check(); !stopped.ok()) {
                                return stopped;
                              }
                              return (*output)->AddBytes(tensor, offset, bytes);
                            },
                            {.highest_token_id = [&] { return sink.HighestTokenId(); }});
  if (!status.ok()) return WithModelReason(status);
  return Computed{std::move(outcome), *std::move(output)};
}

// Returns ABORTED if it was computed from bytes that were not those of the blobs.
absl::StatusOr<JobOutcome> QuantizeOnce(RunningJob& job,
                                        const std::vector<std::vector<int64_t>>& rows,
                                        absl::FunctionRef<void()> verified) {
  absl::StatusOr<OpenModel> model = OpenModelFiles(job.prepared.model, job.store, &job.arrival);
  if (!model.ok()) return model.status();
  const ArrivingCheckpoint* const arriving = model->arriving;
  absl::Status status = job.prepared.model.CheckUnchanged();
  if (!status.ok()) return status;
  absl::StatusOr<Computed> computed = Compute(job, rows, *model);
  status = computed.status();
  if (arriving != nullptr) {
    status = HoldAgainstBlobs(job, *arriving, status);
    if (status.ok()) status = WaitForModel(job);
    if (status.ok()) status = arriving->CheckInlineContent();
  } else if (absl::Status same = job.prepared.model.CheckUnchanged(); !same.ok()) {
    status = same;  // It explains whatever else went wrong.
  }
  if (!status.ok()) return status;
  verified();
  const StageScope stage(job.executor, Stage::kWrite);
  const absl::StatusOr<int64_t> bytes_out = computed->output->Finish();
  if (!bytes_out.ok()) return bytes_out.status();

  JobOutcome outcome = std::move(computed->outcome);
  outcome.bytes_in = arriving != nullptr ? arriving->TensorBytes() : model->tensor_bytes;
  outcome.bytes_out = *bytes_out;
  return outcome;
}

}  // namespace

absl::StatusOr<JobOutcome> RunQuantizeJob(RunningJob& job, absl::FunctionRef<void()> verified) {
  const TokenBlob& calibration = std::get<QuantizeTask>(job.spec.task).calibration;
  absl::Status status = job.arrival.WaitUntilComplete(calibration.name, calibration.tokens);
  if (status.ok()) status = VerifySourcesHere(job);
  if (!status.ok()) return status;
  const auto rows = ReadTokens(calibration, ToRun(job.prepared.model.config()), job.store);
  if (!rows.ok()) return rows.status();
  const PreparedModel judged = job.prepared.model;  // Reading may tell more of it.
  while (true) {
    absl::StatusOr<JobOutcome> outcome = QuantizeOnce(job, *rows, verified);
    if (!absl::IsAborted(outcome.status())) return outcome;
    job.results.Release();
    job.prepared.model = judged;
    if (status = ClearDirectory(job.work_directory); !status.ok()) return status;
    job.observer.Happened(JobWarning{absl::StrCat(outcome.status().message(),
                                                  "; tensors that were ready are withdrawn, and ",
                                                  "the job begins anew when all files are here")});
    if (status = WaitForModel(job); !status.ok()) return status;
  }
}

}  // namespace salient
