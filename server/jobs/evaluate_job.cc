#include "server/jobs/evaluate_job.h"

#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/engines/describe_model.h"
#include "core/engines/model_description.h"
#include "core/evaluate/evaluate_model.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/input_roundings.h"
#include "core/model/model.h"
#include "core/source/nearest_source.h"
#include "core/source/quantized_source.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_sources.h"
#include "server/jobs/model_manifest.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/token_blob.h"

namespace salient {
namespace {

class EvaluationProgress final : public EvaluationObserver {
 public:
  explicit EvaluationProgress(RunningJob& job) : job_(job) {}
  absl::Status TokensDone(int64_t block, int64_t tokens) override {
    job_.progress.TokensDone(JobProgress::Stage::kEvaluate, block, tokens);
    return job_.stop.Check();
  }

 private:
  RunningJob& job_;
};

// Holds a model, what shows its weights as if it were not quantized, and what becomes of the inputs
// of its Linears all the same.
struct PlainModel {
  OpenModel open;
  std::unique_ptr<TensorSource> plain;
  InputRoundings inputs;
};

absl::StatusOr<PlainModel> OpenPlain(RunningJob& job, PreparedModel& prepared) {
  absl::StatusOr<OpenModel> open = OpenWholeModel(prepared, job.store, job.arrival);
  if (!open.ok()) return open.status();
  absl::StatusOr<std::unique_ptr<TensorSource>> plain =
      OpenQuantizedSource(*open->source, prepared.model());
  if (!plain.ok()) return WithModelReason(plain.status());
  absl::StatusOr<InputRoundings> inputs = ReadInputRoundings(*open->source, prepared.model());
  if (!inputs.ok()) return WithModelReason(inputs.status());
  return PlainModel{*std::move(open), *std::move(plain), *std::move(inputs)};
}

// Returns whether the reference rounded to nearest is evaluated beside it.
bool ComparesWithNearest(const EvaluateTask& task, const ModelConfig& model) {
  return task.reference.has_value() && !task.without_round_to_nearest &&
         (task.round_to_nearest.has_value() || model.quantization.has_value());
}

struct Nearest {
  NearestFormats formats;
  ActivationFormat activations = ActivationFormat::kNone;
};

// Returns what the task says; else each Linear as that of the model is stored, so that the two
// differ in how they were rounded alone.
absl::StatusOr<Nearest> NearestOf(const RunningJob& job, const TensorSource& model) {
  const auto& task = std::get<EvaluateTask>(job.spec.task);
  Nearest nearest;
  if (task.round_to_nearest.has_value()) {
    auto formats = NearestFormatsOf(job.prepared.reference->model(), task.round_to_nearest->format);
    if (!formats.ok()) return formats.status();
    nearest.formats = *std::move(formats);
    nearest.activations = task.round_to_nearest->activations;
    return nearest;
  }
  const ModelManifest& manifest = job.prepared.model.manifest;
  const auto described = DescribeModel(model, manifest.model, manifest.config_json);
  if (!described.ok()) return described.status();
  nearest.activations = manifest.model.config.quantization->activations;
  size_t next = 0;
  for (const BlockPlan& block : manifest.model.blocks) {
    auto& formats = nearest.formats.emplace_back(block.linears.size());
    for (std::optional<WeightFormat>& format : formats) {
      const LinearDescription& linear = described->linears[next++];
      if (!linear.quantized) continue;
      format = linear.format;
      // As int-quantized stores its scales, and what else we write.
      format->scale_dtype =
          nearest.activations == ActivationFormat::kNone ? DType::kF16 : DType::kF32;
    }
  }
  return nearest;
}

// Warns of what perplexities in f32 do not show.
void TellOfModel(const RunningJob& job, const ModelEvaluation& model) {
  if (!model.zero_tensors.empty()) {
    job.observer.Happened(JobWarning{DescribeZero(model.zero_tensors)});
  }
  if (job.prepared.model.config().dtype != DType::kF16 || !model.range.PassesF16()) return;
  job.observer.Happened(JobWarning{absl::StrCat(
      model.range.Describe(),
      ": perplexities are computed in f32; engines that compute in float16, as config.json says, "
      "give NaN")});
}

}  // namespace

int ModelCount(const EvaluateTask& task, const ModelConfig& model) {
  return 1 + (task.reference.has_value() ? 1 : 0) + (ComparesWithNearest(task, model) ? 1 : 0);
}

absl::StatusOr<JobOutcome> RunEvaluateJob(RunningJob& job, absl::FunctionRef<void()> verified) {
  const auto& task = std::get<EvaluateTask>(job.spec.task);
  const ModelConfig& config = job.prepared.model.config();
  if (absl::Status arrived = WaitForSources(job); !arrived.ok()) return arrived;
  const auto rows = ReadTokens(task.tokens, ToScore(config), job.store);
  if (!rows.ok()) return rows.status();

  absl::StatusOr<PlainModel> model = OpenPlain(job, job.prepared.model);
  if (!model.ok()) return model.status();
  JobOutcome outcome;
  outcome.parameters = CountParameters(job.prepared.model.model());
  outcome.bytes_in = model->open.tensor_bytes;
  std::vector<EvaluatedModel> models;
  std::optional<PlainModel> reference;
  std::unique_ptr<TensorSource> rounded;
  if (job.prepared.reference.has_value()) {
    // First: divergences are measured from the first model.
    absl::StatusOr<PlainModel> opened = OpenPlain(job, *job.prepared.reference);
    if (!opened.ok()) return opened.status();
    reference = *std::move(opened);
    outcome.bytes_in += reference->open.tensor_bytes;
    models.push_back({reference->plain.get(), &job.prepared.reference->model(), reference->inputs});
  }
  models.push_back({model->plain.get(), &job.prepared.model.model(), model->inputs});
  if (ComparesWithNearest(task, config)) {
    const absl::StatusOr<Nearest> nearest = NearestOf(job, *model->open.source);
    if (!nearest.ok()) return WithModelReason(nearest.status());
    const Model& reference_model = job.prepared.reference->model();
    absl::StatusOr<std::unique_ptr<TensorSource>> opened =
        RoundToNearestByLinear(*reference->plain, reference_model, nearest->formats);
    if (!opened.ok()) return WithModelReason(opened.status());
    rounded = *std::move(opened);
    models.push_back({rounded.get(), &reference_model,
                      RoundToNearestInputs(nearest->formats, nearest->activations)});
  }
  verified();

  const std::vector<int64_t> row_tokens = RowTokens(*rows);
  // The head counts as one more block.
  job.progress.Begin(JobProgress::Stage::kEvaluate, config.num_hidden_layers + 1,
                     std::accumulate(row_tokens.begin(), row_tokens.end(), int64_t{0}),
                     /*parameters_a_block=*/0);
  EvaluationProgress observer(job);
  absl::StatusOr<std::vector<ModelEvaluation>> results =
      EvaluateModels(models, *rows, job.work_directory, observer, job.executor);
  if (!results.ok()) return WithModelReason(results.status());
  TellOfModel(job, (*results)[reference.has_value() ? 1 : 0]);
  JobEvaluation evaluation;
  size_t next = 0;
  if (reference.has_value()) evaluation.reference = std::move((*results)[next++]);
  evaluation.model = std::move((*results)[next++]);
  if (rounded != nullptr) evaluation.round_to_nearest = std::move((*results)[next++]);
  outcome.evaluation = std::move(evaluation);
  return outcome;
}

}  // namespace salient
