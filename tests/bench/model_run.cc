#include "tests/bench/model_run.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/jobs/run.h"
#include "client/jobs/token_file.h"
#include "client/options/quantize.h"
#include "client/report/job.h"
#include "client/terminal/job_display.h"
#include "client/terminal/status_line.h"
#include "client/transfer/channel.h"
#include "client/transfer/local_blob.h"
#include "core/checkpoint/shard_index.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "tests/bench/live_server.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/stage_table.h"

namespace salient::bench {
namespace {

namespace fs = std::filesystem;

// A directory made anew, which goes away with the object.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int64_t BytesBelow(const std::string& directory) {
  int64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

std::string LargestFile(const std::string& directory) {
  std::string largest;
  uintmax_t size = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (!entry.is_regular_file() || entry.file_size() < size) continue;
    size = entry.file_size();
    largest = entry.path();
  }
  return largest;
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Sums those of all series of the family that are about this stage.
double StageSum(const Samples& samples, const std::string& family, Stage stage) {
  const std::string label = absl::StrCat("stage=\"", StageName(stage), "\"");
  double sum = 0;
  for (const auto& [series, value] : samples) {
    if (absl::StartsWith(series, family + "{") && absl::StrContains(series, label)) sum += value;
  }
  return sum;
}

absl::StatusOr<ModelCost> CostOf(const RunRequest& request) {
  const std::vector<int64_t> rows(static_cast<size_t>(request.rows), request.tokens);
  const absl::StatusOr<Model> model = PlanModel(request.shape.config);
  if (!model.ok()) return model.status();
  return CostOfQuantizing(*model, rows, {}, request.workers);
}

absl::StatusOr<client::JobPlan> PlanOf(const std::string& model, const std::string& tokens_path,
                                       const std::string& output) {
  absl::StatusOr<client::LocalBlob> tokens = client::TokenFile(tokens_path);
  if (!tokens.ok()) return tokens.status();
  absl::StatusOr<v1::QuantizeTask> task = client::ToTask({});
  if (!task.ok()) return task.status();
  *task->mutable_calibration()->mutable_tokens() = client::ToTokens(*tokens, {});
  task->set_output_path(output);
  client::JobPlan plan;
  plan.first.push_back(*std::move(tokens));
  plan.request.mutable_spec()->mutable_model()->set_path(model);
  *plan.request.mutable_spec()->mutable_quantize() = *std::move(task);
  return plan;
}

}  // namespace

std::string ModelDirectory(const RunRequest& request) {
  return absl::StrCat(request.directory, "/", request.shape.name);
}

absl::StatusOr<RunResult> RunModel(const RunRequest& request, client::Interrupt& interrupt) {
  const std::string model = ModelDirectory(request);
  absl::Status made = MakeCheckpoint(request.shape, model, request.workers);
  if (!made.ok()) return made;
  const ScratchDirectory scratch(absl::StrCat(request.directory, "/", request.shape.name, "-run"));
  const std::string tokens = scratch.path() + "/tokens.safetensors";
  made = MakeTokens(request.shape, request.rows, request.tokens, tokens);
  if (!made.ok()) return made;

  RunResult result;
  absl::StatusOr<ModelCost> cost = CostOf(request);
  if (!cost.ok()) return cost.status();
  result.cost = *std::move(cost);
  const auto measure = [&] {
    return MeasurePeaks(request.shape.config, request.tokens, request.workers, scratch.path(),
                        LargestFile(model));
  };
  absl::StatusOr<MachinePeaks> peaks = measure();
  if (!peaks.ok()) return peaks.status();
  result.before = *std::move(peaks);
  {
    const std::vector<std::string> flags = {"--workers",         absl::StrCat(request.workers),
                                            "--store-directory", scratch.path() + "/store",
                                            "--model-root",      fs::absolute(request.directory),
                                            "--output-root",     fs::absolute(scratch.path()),
                                            "--instruction-set", request.instruction_set};
    const absl::StatusOr<LiveServer> server =
        LiveServer::Start(request.salientd, flags, request.directory + "/salientd.log");
    if (!server.ok()) return server.status();
    const std::string output = fs::absolute(scratch.path()).string() + "/result";
    absl::StatusOr<client::JobPlan> plan = PlanOf(fs::absolute(model), tokens, output);
    if (!plan.ok()) return plan.status();

    std::FILE* out = request.progress ? stderr : std::fopen("/dev/null", "w");
    const double begin = Seconds();
    const double cpu = server->CpuSeconds();
    absl::StatusOr<client::FinishedJob> job = [&] {
      client::JobDisplay display(out, client::StyleFor(out));
      return client::RunJob({client::OpenChannel(server->address()), server->address(), {}},
                            *std::move(plan), display, interrupt);
    }();
    result.wall_seconds = Seconds() - begin;
    result.cpu_seconds = server->CpuSeconds() - cpu;
    if (!request.progress) std::fclose(out);
    if (!job.ok()) return job.status();
    result.peak_resident_bytes = server->PeakResidentBytes();
    const absl::StatusOr<Samples> samples = server->Scrape();
    if (!samples.ok()) return samples.status();
    for (size_t i = 0; i < kStages; ++i) {
      const Stage stage = static_cast<Stage>(i);
      result.stages[i] = {StageSum(*samples, "salient_stage_busy_seconds_total", stage),
                          StageSum(*samples, "salient_stage_wall_seconds_total", stage)};
    }
    result.output_bytes = BytesBelow(output);
    result.estimated_seconds = job->job.estimate().seconds();
    result.mean_loss_ratio = client::MeanLossRatio(job->groups);
  }
  peaks = measure();
  if (!peaks.ok()) return peaks.status();
  result.after = *std::move(peaks);
  return result;
}

}  // namespace salient::bench
