#include "server/jobs/quantize_job.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/block_weights.h"
#include "core/model/family.h"
#include "core/numerics.h"
#include "core/quantize_model.h"
#include "core/quantized_checkpoint.h"
#include "server/jobs/job_output.h"
#include "server/jobs/process_memory.h"
#include "server/jobs/token_blob.h"
#include "server/workers/call_error.h"

namespace salient {
namespace {

class Sink final : public QuantizedModelSink {
 public:
  // `arriving` may be null.
  Sink(RunningJob& job, const ModelConfig& config, const Family& family, ComputeDType compute,
       const ArrivingCheckpoint* arriving, JobOutput& output)
      : job_(job),
        config_(config),
        family_(family),
        numerics_id_(NumericsId(compute)),
        arriving_(arriving),
        output_(output) {}

  absl::Status BlockDone(int64_t block, std::vector<NamedTensor> tensors) override {
    if (absl::Status status = WaitForWriting(); !status.ok()) return status;
    writing_ = job_.executor.Start(
        [this, tensors = std::move(tensors)]() mutable { return Write(std::move(tensors)); });
    // What the allocator kept between what is in use would add up block by block.
    TrimFreeMemory();
    if (block + 1 == config_.num_hidden_layers || IsHere(block + 1)) return absl::OkStatus();
    // Waiting for bytes may take long: a write that failed is told before.
    if (absl::Status status = WaitForWriting(); !status.ok()) return status;
    return WaitForBlock(block + 1);
  }

  bool IsOut(int64_t /*block*/) const override { return writing_ == nullptr; }

  // What was handed over last is out.
  absl::Status WaitForWriting() {
    if (writing_ == nullptr) return absl::OkStatus();
    return std::exchange(writing_, nullptr)->Wait();
  }

  // Reports of a block come after the tensors of the block before.
  absl::Status GroupDone(const GroupReport& report) override {
    if (absl::Status status = WaitForWriting(); !status.ok()) return status;
    const absl::Duration elapsed = job_.progress.GroupDone(report.parameters);
    job_.observer.Happened(TimedGroupReport{report, elapsed, numerics_id_});
    return job_.stop.Check();
  }

  absl::Status Kept(const std::string& module, const std::string& why) override {
    if (absl::Status status = WaitForWriting(); !status.ok()) return status;
    job_.observer.Happened(JobWarning{absl::StrCat(module, " stays F16: ", why)});
    return job_.stop.Check();
  }

  absl::Status TokensDone(int64_t block, int64_t tokens) override {
    job_.progress.TokensDone(JobProgress::Stage::kCalibrate, block, tokens);
    return job_.stop.Check();
  }

  // On this thread, so that no worker waits when the block is read.
  absl::Status WaitForBlock(int64_t block) const {
    if (arriving_ == nullptr) return absl::OkStatus();
    return arriving_->WaitForTensors(BlockTensors(family_, config_, block));
  }

 private:
  bool IsHere(int64_t block) const {
    if (arriving_ == nullptr) return true;
    const std::vector<TensorSpec> tensors = BlockTensors(family_, config_, block);
    return std::all_of(tensors.begin(), tensors.end(),
                       [this](const TensorSpec& tensor) { return arriving_->IsHere(tensor.name); });
  }

  // On the thread for that.
  absl::Status Write(std::vector<NamedTensor> tensors) {
    const StageScope stage(job_.executor, Stage::kWrite);
    if (absl::Status status = output_.AddTensors(tensors); !status.ok()) return status;
    tensors.clear();
    TrimFreeMemory();
    return absl::OkStatus();
  }

  RunningJob& job_;
  const ModelConfig& config_;
  const Family& family_;
  const std::string numerics_id_;
  const ArrivingCheckpoint* const arriving_;
  JobOutput& output_;
  std::unique_ptr<Background> writing_;  // last, because it uses what is above
};

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

}  // namespace

absl::StatusOr<JobOutcome> RunQuantizeJob(RunningJob& job, absl::FunctionRef<void()> verified) {
  const auto& task = std::get<QuantizeTask>(job.spec.task);
  const ModelConfig& config = job.prepared.model.config();
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return WithModelReason(family.status());

  const TokenSource& calibration = task.calibration;
  absl::Status status = job.arrival.WaitUntilComplete("tokens", calibration.tokens);
  if (!status.ok()) return status;
  const auto rows = ReadTokens(calibration, config.vocab_size, job.store);
  if (!rows.ok()) return rows.status();
  const std::vector<int64_t> row_tokens = RowTokens(*rows);

  absl::StatusOr<OpenModel> model = OpenModelFiles(job.prepared.model, job.store, &job.arrival);
  if (!model.ok()) return model.status();
  if (model->arriving != nullptr) {
    status = model->arriving->WaitForHeaders();
    // As at submission, if the headers were not there then.
    if (status.ok()) {
      status = WithModelReason(CheckModelTensors(*model->source, **family, config));
    }
    if (!status.ok()) return status;
  }
  const absl::StatusOr<std::unique_ptr<JobOutput>> output = OpenOutput(job);
  if (!output.ok()) return output.status();

  Sink sink(job, config, **family, task.compute, model->arriving, **output);
  if (status = sink.WaitForBlock(0); !status.ok()) return status;
  const int64_t blocks = config.num_hidden_layers;
  job.progress.Begin(JobProgress::Stage::kCalibrate, blocks,
                     std::accumulate(row_tokens.begin(), row_tokens.end(), int64_t{0}),
                     job.prepared.plan.parameters / blocks);
  QuantizeModelParams params;
  params.method = task.method;
  params.stored = task.stored;
  params.compute = task.compute;
  params.seed = task.seed;
  params.strict = task.strict;
  params.work_directory = job.work_directory;
  status = QuantizeModel(*model->source, config, *rows, params, sink, job.executor);
  if (status.ok()) status = sink.WaitForWriting();
  if (!status.ok()) return WithModelReason(status);

  job.progress.Writes();
  const StageScope stage(job.executor, Stage::kWrite);
  status = CopyOuterTensors(*model->source, config,
                            [&](const TensorShape& tensor, int64_t offset,
                                absl::Span<const std::byte> bytes) -> absl::Status {
                              if (absl::Status stopped = job.stop.Check(); !stopped.ok()) {
                                return stopped;
                              }
                              return (*output)->AddBytes(tensor, offset, bytes);
                            });
  if (!status.ok()) return WithModelReason(status);

  if (model->arriving != nullptr) {
    status = WaitForModel(job);
    if (status.ok()) status = model->arriving->CheckInlineContent();
    if (!status.ok()) return status;
  }
  verified();
  const absl::StatusOr<int64_t> bytes_out = (*output)->Finish();
  if (!bytes_out.ok()) return bytes_out.status();

  JobOutcome outcome;
  outcome.parameters = job.prepared.plan.parameters;
  outcome.bytes_in =
      model->arriving != nullptr ? model->arriving->TensorBytes() : model->tensor_bytes;
  outcome.bytes_out = *bytes_out;
  return outcome;
}

}  // namespace salient
