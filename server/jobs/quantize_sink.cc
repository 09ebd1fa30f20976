#include "server/jobs/quantize_sink.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/tensor_source.h"
#include "core/group/quantize_group.h"
#include "core/model/activation_range.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/numerics.h"
#include "core/result/outer_tensors.h"
#include "core/result/raised_group.h"
#include "core/safetensors/layout.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "server/jobs/job.h"
#include "server/jobs/output_directories.h"
#include "server/jobs/tokenizer_files.h"
#include "server/process/memory.h"

namespace salient {

QuantizeSink::QuantizeSink(RunningJob& job, ComputeDType compute, const PlainDTypes& dtypes,
                           const TensorSource& source, const ArrivingCheckpoint* arriving,
                           JobOutput& output)
    : job_(job),
      model_(job.prepared.model.model()),
      numerics_id_(NumericsId(compute)),
      dtypes_(dtypes),
      source_(source),
      arriving_(arriving),
      output_(output) {}

absl::Status QuantizeSink::TensorsDone(int64_t /*block*/, size_t output,
                                       std::vector<NamedTensor> tensors) {
  if (absl::Status status = WaitForWriting(); !status.ok()) return status;
  writing_ = job_.executor.Start([this, output, tensors = std::move(tensors)]() mutable {
    return Write(output, std::move(tensors));
  });
  // The allocator keeps memory between what is in use, which would add up block by block.
  TrimFreeMemory();
  return absl::OkStatus();
}

absl::Status QuantizeSink::BlockDone(int64_t block) {
  if (block + 1 == static_cast<int64_t>(model_.blocks.size())) return absl::OkStatus();
  if (absl::Status status = CheckOuterTensors(); !status.ok()) return status;
  if (IsHere(block + 1)) return absl::OkStatus();
  // Waiting for bytes may take long: a write that failed is told before.
  if (absl::Status status = WaitForWriting(); !status.ok()) return status;
  return WaitForBlock(block + 1);
}

absl::Status QuantizeSink::GroupDone(size_t output, const GroupReport& report) {
  if (absl::Status status = WaitForWriting(); !status.ok()) return status;
  const absl::Duration elapsed = job_.progress.GroupDone(report.parameters);
  job_.observer.Happened(
      TimedGroupReport{report, elapsed, numerics_id_, job_.prepared.outputs[output].directory});
  for (const std::string& warning : report.warnings) {
    if (warned_.insert(warning).second) Warn(output, warning);
  }
  return job_.stop.Check();
}

absl::Status QuantizeSink::Kept(size_t /*output*/, const std::string& /*module*/,
                                const std::string& /*why*/) {
  return job_.stop.Check();
}

absl::Status QuantizeSink::Raised(const RaisedGroup& group) {
  if (absl::Status status = WaitForWriting(); !status.ok()) return status;
  raised_.push_back(group);
  Warn(group.output,
       absl::StrCat(model_.blocks[static_cast<size_t>(group.layer)].prefix, group.group,
                    group.bits == kRaisedToF16 ? " is not quantized: "
                                               : absl::StrCat(" has ", group.bits, " bits: "),
                    group.why));
  return job_.stop.Check();
}

absl::Status QuantizeSink::RangeGrew(const ActivationRange& range) {
  if (absl::Status status = WaitForWriting(); !status.ok()) return status;
  const ActivationRange before = std::exchange(range_, range);
  const bool passes = range.PassesF16() && !before.PassesF16();
  const bool nears = range.NearsF16() && !before.NearsF16();
  const bool in_f16 = dtypes_.config == DType::kF16;
  const auto warn = [&](absl::string_view what) {
    job_.observer.Happened(JobWarning{absl::StrCat(range.Describe(), what)});
  };
  if (in_f16 && dtypes_.came_in_f32) {
    if (nears) warn(": config.json says bfloat16, in which engines have the range for it");
  } else if (passes && in_f16) {
    warn(
        ": engines that compute in float16, as config.json says, give NaN; expected bfloat16, "
        "which they are to be started with");
  } else if (passes) {
    warn(": engines that compute in float16, whatever config.json says, give NaN");
  } else if (nears && in_f16) {
    warn(
        ", which other text may reach: engines that compute in float16, as config.json says, "
        "would give NaN, and in bfloat16 they do not");
  }
  return job_.stop.Check();
}

absl::Status QuantizeSink::AllZero(const std::vector<std::string>& tensors) {
  if (absl::Status status = WaitForWriting(); !status.ok()) return status;
  job_.observer.Happened(JobWarning{DescribeZero(tensors)});
  return job_.stop.Check();
}

absl::Status QuantizeSink::TokensDone(int64_t block, int64_t tokens) {
  job_.progress.TokensDone(JobProgress::Stage::kCalibrate, block, tokens);
  return job_.stop.Check();
}

absl::Status QuantizeSink::WaitForWriting() {
  if (writing_ == nullptr) return absl::OkStatus();
  return std::exchange(writing_, nullptr)->Wait();
}

absl::Status QuantizeSink::CheckOuterTensors() {
  return CopyOuterTensors(
      source_, model_,
      [this](const TensorShape& /*tensor*/, int64_t /*offset*/,
             absl::Span<const std::byte> /*bytes*/) { return job_.stop.Check(); },
      {.wanted =
           [this](const std::string& tensor) {
             return source_.IsHere(tensor) && checked_.insert(tensor).second;
           },
       .highest_token_id = [this] { return HighestTokenId(); },
       .unused =
           [this](const UnusedRows& rows) {
             job_.observer.Happened(JobWarning{rows.Describe()});
           }});
}

absl::StatusOr<int64_t> QuantizeSink::HighestTokenId() {
  if (!highest_token_id_.has_value()) highest_token_id_ = ReadHighestTokenId(job_);
  return *highest_token_id_;
}

absl::Status QuantizeSink::WaitForBlock(int64_t block) const {
  if (arriving_ == nullptr) return absl::OkStatus();
  return arriving_->WaitForTensors(BlockTensors(model_.blocks[static_cast<size_t>(block)]));
}

bool QuantizeSink::IsHere(int64_t block) const {
  if (arriving_ == nullptr) return true;
  const std::vector<TensorSpec> tensors = BlockTensors(model_.blocks[static_cast<size_t>(block)]);
  return std::all_of(tensors.begin(), tensors.end(),
                     [this](const TensorSpec& tensor) { return arriving_->IsHere(tensor.name); });
}

// Runs on the thread for that.
absl::Status QuantizeSink::Write(size_t output, std::vector<NamedTensor> tensors) {
  const StageScope stage(job_.executor, Stage::kWrite);
  if (absl::Status status = output_.AddTensors(output, tensors); !status.ok()) return status;
  tensors.clear();
  TrimFreeMemory();
  return absl::OkStatus();
}

void QuantizeSink::Warn(size_t output, const std::string& text) {
  const std::string& directory = job_.prepared.outputs[output].directory;
  job_.observer.Happened(
      JobWarning{directory.empty() ? text : absl::StrCat(directory, ": ", text)});
}

}  // namespace salient
