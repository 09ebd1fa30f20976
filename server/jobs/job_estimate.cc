#include "server/jobs/job_estimate.h"

#include <time.h>

#include <algorithm>
#include <numeric>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "core/cost/model_cost.h"
#include "core/cost/speed_probe.h"
#include "core/cost/study_cost.h"
#include "core/cost/work_count.h"
#include "core/linalg/gemm.h"
#include "core/model/model.h"
#include "core/quantize/quantize_model.h"
#include "server/jobs/evaluate_job.h"
#include "server/jobs/quantize_params.h"
#include "server/jobs/study_job.h"

namespace salient {
namespace {

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Amount a second, of the fastest of a few runs. In the thread's own time: what else the machine
// does at this moment says nothing about the hours to come.
double Rate(absl::FunctionRef<double()> piece) {
  constexpr int kRuns = 4;
  double fastest = 0;
  for (int run = 0; run < kRuns; ++run) {
    const double begin = ThreadSeconds();
    const double amount = piece();
    fastest = std::max(fastest, amount / std::max(1e-9, ThreadSeconds() - begin));
  }
  return fastest;
}

// Returns that of one thread, measured once by the thread that asks first.
const MachineSpeed& SpeedOfThisMachine() {
  static const MachineSpeed speed = [] {
    LimitThreadToItself();
    SpeedProbe probe;
    MachineSpeed measured;
    measured.bf16_flop = Rate([&probe] { return probe.Bf16(); });
    measured.f32_flop = Rate([&probe] { return probe.F32(); });
    measured.vector_flop = Rate([&probe] { return probe.Vector(); });
    measured.copied_bytes = Rate([&probe] { return probe.Copy(); });
    return measured;
  }();
  return speed;
}

// Ids as a job holds them while it runs.
int64_t TokenBytes(absl::Span<const int64_t> row_tokens) {
  return std::accumulate(row_tokens.begin(), row_tokens.end(), int64_t{0}) *
         static_cast<int64_t>(sizeof(int64_t));
}

absl::StatusOr<ModelCost> CostOf(const JobSpec& spec, const PreparedJob& job, int workers) {
  const Model& model = job.model.model();
  if (const auto* evaluate = std::get_if<EvaluateTask>(&spec.task); evaluate != nullptr) {
    return CostOfEvaluating(model, job.row_tokens, ModelCount(*evaluate, model.config), workers);
  }
  if (const auto* study = std::get_if<StudyTask>(&spec.task); study != nullptr) {
    const auto cost = CostOfStudying(model, job.row_tokens, job.evaluation_row_tokens,
                                     ToStudyModelParams(*study), workers);
    if (!cost.ok()) return cost.status();
    return cost->total;
  }
  const QuantizeModelParams params = ModelParams(std::get<QuantizeTask>(spec.task));
  absl::StatusOr<ModelCost> cost = CostOfQuantizing(model, job.row_tokens, params, workers);
  if (cost.ok() && params.max_relative_error != 0 && !job.output_path.empty()) {
    // Tensors of blocks wait on disk until it is known where in a file they stand.
    cost->write_bytes += static_cast<double>(cost->output_bytes);
    cost->read_bytes += static_cast<double>(cost->output_bytes);
  }
  return cost;
}

}  // namespace

absl::StatusOr<JobEstimate> EstimateJob(const JobSpec& spec, const PreparedJob& job, int workers,
                                        int64_t process_bytes) {
  if (std::holds_alternative<InspectTask>(spec.task)) {
    JobEstimate estimate;  // It is done.
    estimate.peak_memory_bytes = process_bytes;
    return estimate;
  }
  const MachineSpeed& speed = SpeedOfThisMachine();
  const absl::StatusOr<ModelCost> cost = CostOf(spec, job, workers);
  if (!cost.ok()) return cost.status();
  JobEstimate estimate;
  estimate.peak_memory_bytes = process_bytes + cost->memory_bytes + TokenBytes(job.row_tokens) +
                               TokenBytes(job.evaluation_row_tokens);
  const Work work = cost->Total();
  estimate.flop = work.bf16_flop + work.f32_flop + work.vector_flop;
  estimate.seconds = SecondsOf(*cost, speed, workers);
  const auto* quantize = std::get_if<QuantizeTask>(&spec.task);
  const bool limits_error = quantize != nullptr && quantize->max_relative_error != 0;
  for (const PreparedOutput& output : job.outputs) {
    estimate.output_bytes += output.plan.output_bytes;
    estimate.most_output_bytes +=
        limits_error ? output.plan.most_output_bytes : output.plan.output_bytes;
  }
  return estimate;
}

}  // namespace salient
