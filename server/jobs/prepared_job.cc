#include "server/jobs/prepared_job.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"
#include "core/config/model/refusal.h"
#include "core/engines/inspection.h"
#include "core/model/model.h"
#include "core/result/left_out_tensors.h"
#include "core/result/module_override.h"
#include "core/result/plain_dtypes.h"
#include "core/source/nearest_source.h"
#include "core/study/study_block.h"
#include "core/study/study_model.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"
#include "server/jobs/inspect_job.h"
#include "server/jobs/kept_linears.h"
#include "server/jobs/output_directories.h"
#include "server/jobs/quantize_params.h"
#include "server/jobs/root_path.h"
#include "server/jobs/token_blob.h"
#include "server/store/digest.h"

namespace salient {
namespace {

constexpr char kOutputRootFlag[] = "--output-root";

absl::Status BadJob(absl::string_view field, absl::string_view message) {
  return WithField(InvalidCall(Reason::kBadJob, absl::StrCat(field, message)), field);
}

absl::Status CheckSpec(const JobSpec& spec) {
  if (spec.priority < 0 || spec.priority > 9) {
    return BadJob("priority", absl::StrCat(" is ", spec.priority, "; expected 0 to 9"));
  }
  if (spec.timeout <= absl::ZeroDuration()) {
    return BadJob("timeout", absl::StrCat(" is ", absl::FormatDuration(spec.timeout),
                                          "; expected more than 0"));
  }
  if (spec.ttl_after_finished.value_or(absl::ZeroDuration()) < absl::ZeroDuration()) {
    return BadJob("ttl_after_finished",
                  absl::StrCat(" is ", absl::FormatDuration(*spec.ttl_after_finished),
                               "; expected at least 0"));
  }
  return absl::OkStatus();
}

// Judges tokens that are here and not many. Returns by row how many there are.
absl::StatusOr<std::vector<int64_t>> FindRowTokens(const TokenBlob& source, const TokenNeeds& needs,
                                                   BlobStore& store) {
  if (absl::Status status = CheckTokenBlob(source); !status.ok()) return status;
  const bool is_large = source.tokens.size_bytes > kMaxSoonJudgedTokenBytes;
  if (is_large || !store.Status(source.tokens).complete) return GuessRowTokens(source);
  const auto rows = ReadTokens(source, needs, store);
  if (!rows.ok()) return rows.status();
  return RowTokens(*rows);
}

absl::Status PrepareTokens(const TokenBlob& source, const TokenNeeds& needs, BlobStore& store,
                           PreparedJob& job) {
  absl::StatusOr<std::vector<int64_t>> row_tokens = FindRowTokens(source, needs, store);
  if (!row_tokens.ok()) return row_tokens.status();
  job.row_tokens = *std::move(row_tokens);
  job.tokens = source.tokens;
  return absl::OkStatus();
}

// Says what a result will lack; if not all headers are here, the job says it later.
absl::StatusOr<std::vector<std::string>> FindLeftOut(const PreparedModel& model, BlobStore& store) {
  const absl::StatusOr<OpenModel> open = OpenModelFiles(model, store, /*arrival=*/nullptr);
  if (!open.ok()) return open.status();
  return LeftOutTensors(open->tensor_names, model.model(), model.manifest.config_json);
}

// Says what each result will consist of.
absl::StatusOr<std::vector<PreparedOutput>> PrepareOutputs(
    const QuantizeTask& task, const PreparedModel& model,
    const std::optional<PlainDTypes>& dtypes) {
  const auto directories = OutputDirectories(task.formats);
  if (!directories.ok()) return WithField(directories.status(), "quantize.formats");
  std::vector<PreparedOutput> outputs;
  for (size_t i = 0; i < task.formats.size(); ++i) {
    const auto good = ApplyOverrides(model.model(), task.formats[i], task.overrides);
    if (!good.ok()) {
      return WithField(WithReason(good.status(), Reason::kBadJob), "quantize.overrides");
    }
    absl::StatusOr<QuantizedCheckpointPlan> plan = PlanQuantizedCheckpoint(
        model.model(), model.manifest.config_json, CheckpointParams(task, i, dtypes));
    if (!plan.ok()) {
      if (task.formats.size() == 1) return WithModelReason(plan.status());
      return WithField(WithModelReason(plan.status()), absl::StrCat("quantize.formats[", i, "]"));
    }
    outputs.push_back({(*directories)[i], *std::move(plan)});
  }
  return outputs;
}

absl::Status PrepareQuantize(const QuantizeTask& task, const JobTableSettings& settings,
                             BlobStore& store, PreparedJob& job) {
  if (absl::Status status = CheckPreparedModel(job.model, /*may_be_quantized=*/false, store);
      !status.ok()) {
    return WithField(WithModelReason(status), "model");
  }
  if (absl::Status status = CheckCarriedFiles(job.model); !status.ok()) {
    return WithField(WithModelReason(status), "model");
  }
  absl::StatusOr<std::vector<std::string>> left_out = FindLeftOut(job.model, store);
  if (!left_out.ok()) return WithField(WithModelReason(left_out.status()), "model");
  job.warnings = *std::move(left_out);
  const auto dtypes = FindPlainDTypes(job.model, store);
  if (!dtypes.ok()) return WithField(WithModelReason(dtypes.status()), "model");
  absl::StatusOr<std::vector<PreparedOutput>> outputs = PrepareOutputs(task, job.model, *dtypes);
  if (!outputs.ok()) return outputs.status();
  job.outputs = *std::move(outputs);
  for (const ConfigRefusal& refusal : job.model.config().refusals) {
    const std::string mended = MendText(refusal);
    if (mended.empty()) continue;
    job.warnings.push_back(absl::StrCat(job.model.config().source, ": ", mended));
  }
  for (size_t i = 0; i < job.outputs.size(); ++i) {
    const PreparedOutput& output = job.outputs[i];
    const auto warn = [&](std::string warning) {
      job.warnings.push_back(output.directory.empty()
                                 ? std::move(warning)
                                 : absl::StrCat(output.directory, ": ", warning));
    };
    for (std::string& warning :
         KeptWarnings(job.model.model(), CheckpointParams(task, i, *dtypes))) {
      warn(std::move(warning));
    }
    absl::StatusOr<std::vector<std::string>> warnings =
        CheckEngines(job.model.model(), job.model.manifest.config_json,
                     {CheckpointParams(task, i, *dtypes), task.max_relative_error != 0},
                     output.plan, task.engines);
    if (!warnings.ok()) {
      return WithField(WithReason(warnings.status(), Reason::kBadFormat), "quantize.engines");
    }
    for (std::string& warning : *warnings) warn(std::move(warning));
  }
  absl::StatusOr<std::string> left_behind = LeftBehind(job.model);
  if (!left_behind.ok()) return WithField(WithModelReason(left_behind.status()), "model.path");
  if (!left_behind->empty()) job.warnings.push_back(*std::move(left_behind));
  if (!task.output_path.empty()) {
    absl::StatusOr<std::string> path =
        ResolveOutputPath(kOutputRootFlag, settings.output_root, task.output_path);
    if (!path.ok()) return WithField(path.status(), "quantize.output_path");
    job.output_path = *std::move(path);
    std::error_code error;
    if (std::filesystem::exists(job.output_path, error) &&
        !std::filesystem::is_empty(job.output_path, error)) {
      return WithField(
          InvalidCall(Reason::kBadPath, absl::StrCat("path ", QuoteForMessage(task.output_path),
                                                     ": is not empty; expected nothing there")),
          "quantize.output_path");
    }
  }
  return WithField(PrepareTokens(task.calibration, ToRun(job.model.config()), store, job),
                   "quantize.calibration.tokens");
}

absl::Status PrepareEvaluate(const EvaluateTask& task, const JobTableSettings& settings,
                             BlobStore& store, PreparedJob& job) {
  if (absl::Status status = CheckPreparedModel(job.model, /*may_be_quantized=*/true, store);
      !status.ok()) {
    return WithField(WithModelReason(status), "model");
  }
  if (task.reference.has_value()) {
    absl::StatusOr<PreparedModel> reference =
        PrepareModel("evaluate.reference", *task.reference, settings.model_root, store);
    if (!reference.ok()) return reference.status();
    job.reference = *std::move(reference);
    if (absl::Status status = CheckPreparedModel(*job.reference, /*may_be_quantized=*/true, store);
        !status.ok()) {
      return WithField(WithModelReason(status), "evaluate.reference");
    }
  }
  if (job.reference.has_value() && task.round_to_nearest.has_value() &&
      !task.without_round_to_nearest) {
    const absl::Status status =
        NearestFormatsOf(job.reference->model(), task.round_to_nearest->format).status();
    if (!status.ok()) {
      return WithField(WithReason(status, Reason::kBadFormat), "evaluate.round_to_nearest");
    }
  }
  return WithField(PrepareTokens(task.tokens, ToScore(job.model.config()), store, job),
                   "evaluate.tokens");
}

// The model was judged before, so what CheckStudy says is about the task.
absl::Status CheckStudyParams(const Model& model, const StudyBlockParams& params) {
  const absl::Status status = CheckStudy(model, params);
  const bool is_share = params.salient_share >= 0 && params.salient_share <= 1;
  if (!is_share) return WithField(WithReason(status, Reason::kBadJob), "study.salient_share");
  return WithField(WithReason(status, Reason::kBadFormat), "study.format");
}

absl::Status PrepareStudy(const StudyTask& task, BlobStore& store, PreparedJob& job) {
  const ModelConfig& config = job.model.config();
  if (absl::Status status = CheckPreparedModel(job.model, /*may_be_quantized=*/false, store);
      !status.ok()) {
    return WithField(WithModelReason(status), "model");
  }
  absl::Status status = CheckStudyParams(job.model.model(), task.params);
  if (!status.ok()) return status;
  status = WithField(PrepareTokens(task.calibration, ToRun(config), store, job),
                     "study.calibration.tokens");
  if (!status.ok()) return status;
  absl::StatusOr<std::vector<int64_t>> row_tokens =
      FindRowTokens(task.evaluation, ToScore(config), store);
  if (!row_tokens.ok()) return WithField(row_tokens.status(), "study.evaluation.tokens");
  job.evaluation_row_tokens = *std::move(row_tokens);
  job.needed.push_back(task.evaluation.tokens);
  return absl::OkStatus();
}

absl::Status PrepareTask(const JobSpec& spec, const JobTableSettings& settings, BlobStore& store,
                         PreparedJob& job) {
  if (const auto* quantize = std::get_if<QuantizeTask>(&spec.task); quantize != nullptr) {
    return PrepareQuantize(*quantize, settings, store, job);
  }
  if (const auto* study = std::get_if<StudyTask>(&spec.task); study != nullptr) {
    return PrepareStudy(*study, store, job);
  }
  return PrepareEvaluate(std::get<EvaluateTask>(spec.task), settings, store, job);
}

// Adds all that the job reads to what the task named, each once.
void AddNeeded(PreparedJob& job) {
  std::vector<Digest> all = std::exchange(job.needed, {});
  const auto add = [&all](const std::vector<Digest>& digests) {
    all.insert(all.end(), digests.begin(), digests.end());
  };
  add(job.model.manifest.needed);
  if (job.reference.has_value()) add(job.reference->manifest.needed);
  all.push_back(*job.tokens);
  absl::flat_hash_set<Digest> seen;
  for (const Digest& digest : all) {
    if (seen.insert(digest).second) job.needed.push_back(digest);
  }
}

}  // namespace

absl::StatusOr<PreparedJob> PrepareJob(const JobSpec& spec, const JobTableSettings& settings,
                                       BlobStore& store, const CancelToken& stop) {
  if (absl::Status status = CheckSpec(spec); !status.ok()) return status;
  const auto keep_going = [&stop] { return stop.Check(); };
  const JsonInterrupt interrupt(keep_going);
  PreparedJob job;
  absl::StatusOr<PreparedModel> model =
      PrepareModel("model", spec.model, settings.model_root, store);
  if (!model.ok()) return model.status();
  job.model = *std::move(model);
  if (absl::Status status = stop.Check(); !status.ok()) return status;
  if (const auto* inspect = std::get_if<InspectTask>(&spec.task); inspect != nullptr) {
    absl::StatusOr<Inspection> inspection = InspectModel(*inspect, job.model, store);
    if (!inspection.ok()) return inspection.status();
    job.inspection = *std::move(inspection);
    return job;
  }
  if (absl::Status status = PrepareTask(spec, settings, store, job); !status.ok()) return status;
  if (absl::Status status = stop.Check(); !status.ok()) return status;
  for (const PreparedModel* of_job :
       {&job.model, job.reference.has_value() ? &*job.reference : nullptr}) {
    if (of_job == nullptr || !of_job->config().own_head) continue;
    job.warnings.push_back(OwnHeadWarning(of_job->config()));
  }
  AddNeeded(job);
  return job;
}

}  // namespace salient
