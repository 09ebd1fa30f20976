#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/shard_index.h"
#include "core/file/appearing_directory.h"
#include "core/result/quantization_config.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/layout.h"
#include "core/tensor/named_tensor.h"
#include "proto/wire/sha256.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_output.h"
#include "server/jobs/job_sources.h"
#include "server/jobs/output_directories.h"
#include "server/jobs/running_job.h"
#include "server/jobs/tensor_spool.h"
#include "server/store/digest.h"
#include "server/store/file.h"

namespace salient {
namespace {

absl::Status PathError(const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) {
    return WithRetryAfter(WithReason(status, Reason::kSpoolFull), absl::Minutes(1));
  }
  if (absl::IsAlreadyExists(status) || absl::IsNotFound(status) ||
      absl::IsPermissionDenied(status)) {
    if (DetailsOf(status).reason == Reason::kInternal) {
      return InvalidCall(Reason::kBadPath, status.message());
    }
  }
  return status;
}

// Holds one result: a model directory.
struct DirectoryPart {
  std::string directory;  // It stands inside the output; it is empty for the output itself.
  CheckpointWriter writer;
  // While it is not known where tensors will stand.
  std::optional<TensorSpool> spool;
  std::vector<std::string> names = {};  // They are the names of its files.
};

class DirectoryOutput final : public JobOutput {
 public:
  // The parts lie in `parent`, if there are several.
  DirectoryOutput(RunningJob& job, std::optional<AppearingDirectory> parent)
      : job_(job), parent_(std::move(parent)) {}

  absl::Status AddPart(const std::string& directory, const QuantizedCheckpointPlan& plan,
                       bool plan_is_final) {
    const std::string path =
        parent_.has_value() ? InDirectory(parent_->path(), directory) : job_.prepared.output_path;
    absl::StatusOr<CheckpointWriter> writer = CheckpointWriter::Create(path);
    if (!writer.ok()) return writer.status();
    DirectoryPart part{directory, *std::move(writer), std::nullopt};
    if (plan_is_final) {
      if (absl::Status status = AddFiles(plan, part); !status.ok()) return status;
    } else {
      auto spool = TensorSpool::Create(job_.work_directory, absl::StrCat("spool-", parts_.size()),
                                       plan.most_output_bytes);
      if (!spool.ok()) return spool.status();
      part.spool = *std::move(spool);
    }
    parts_.push_back(std::move(part));
    return absl::OkStatus();
  }

  absl::Status AddTensors(size_t output, absl::Span<const NamedTensor> tensors) override {
    DirectoryPart& part = parts_[output];
    for (const NamedTensor& tensor : tensors) {
      if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
      absl::Status status = part.spool.has_value()
                                ? part.spool->Add(tensor)
                                : part.writer.WriteTensor(tensor.name, 0, tensor.data);
      if (!status.ok()) return PathError(status);
    }
    return absl::OkStatus();
  }

  absl::Status Settle(std::vector<QuantizedCheckpointPlan> plans) override {
    plans_ = std::move(plans);
    for (size_t i = 0; i < parts_.size(); ++i) {
      DirectoryPart& part = parts_[i];
      if (!part.spool.has_value()) continue;
      absl::Status status = part.spool->Close();
      if (status.ok()) status = AddFiles(plans_[i], part);
      if (status.ok()) {
        status = part.spool->Replay([&](const std::string& tensor, int64_t offset,
                                        absl::Span<const std::byte> bytes) -> absl::Status {
          if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
          return part.writer.WriteTensor(tensor, offset, bytes);
        });
      }
      if (!status.ok()) return PathError(status);
    }
    return absl::OkStatus();
  }

  absl::Status AddBytes(const TensorShape& tensor, int64_t offset,
                        absl::Span<const std::byte> bytes) override {
    for (DirectoryPart& part : parts_) {
      absl::Status status = part.writer.WriteTensor(tensor.name, offset, bytes);
      if (!status.ok()) return PathError(status);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Finish() override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (absl::Status status = WriteOthers(plans_[i], parts_[i]); !status.ok()) {
        return PathError(status);
      }
    }
    if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
    for (DirectoryPart& part : parts_) {
      if (absl::Status status = part.writer.Commit(); !status.ok()) return PathError(status);
    }
    if (parent_.has_value()) {
      if (absl::Status status = parent_->Commit(); !status.ok()) return PathError(status);
    }
    std::vector<ResultFile> files;
    if (absl::Status status = HashAll(files); !status.ok()) {
      // The directory has its name by now; the job does not succeed, so it goes again.
      std::error_code ignored;
      std::filesystem::remove_all(job_.prepared.output_path, ignored);
      return status;
    }
    int64_t bytes = 0;
    for (ResultFile& file : files) {
      bytes += file.digest.size_bytes;
      job_.observer.Happened(std::move(file));
    }
    return bytes;
  }

 private:
  static absl::Status AddFiles(const QuantizedCheckpointPlan& plan, DirectoryPart& part) {
    for (const QuantizedFile& file : plan.files) {
      absl::Status status = part.writer.AddSafetensors(file.name, file.layout);
      if (!status.ok()) return status;
      part.names.push_back(file.name);
    }
    return absl::OkStatus();
  }

  absl::Status WriteOthers(const QuantizedCheckpointPlan& plan, DirectoryPart& part) {
    absl::Status status;
    if (!plan.index_json.empty()) {
      status = part.writer.WriteFile(kShardIndexName, plan.index_json);
      part.names.push_back(kShardIndexName);
    }
    if (status.ok()) status = part.writer.WriteFile(kConfigName, plan.config_json);
    part.names.push_back(kConfigName);
    if (status.ok() && !plan.quantize_config_json.empty()) {
      status = part.writer.WriteFile(kQuantizeConfigName, plan.quantize_config_json);
      part.names.push_back(kQuantizeConfigName);
    }
    if (!status.ok()) return status;
    const absl::StatusOr<std::vector<CarriedFile>> carried = CarriedFiles(job_.prepared.model);
    if (!carried.ok()) return carried.status();
    for (const CarriedFile& file : *carried) {
      if (status = Carry(file, part.writer); !status.ok()) return status;
      part.names.push_back(file.name);
    }
    return absl::OkStatus();
  }

  absl::Status Carry(const CarriedFile& file, CheckpointWriter& writer) {
    const auto check = [this] { return job_.stop.Check(); };
    if (!file.path.empty()) return writer.CopyFile(file.name, file.path, check);
    const absl::StatusOr<std::string> content = ReadSource(file.name, file.blob, job_.store);
    if (!content.ok()) return content.status();
    return writer.WriteFile(file.name, *content);
  }

  absl::Status HashAll(std::vector<ResultFile>& files) const {
    for (const DirectoryPart& part : parts_) {
      if (absl::Status status = HashFiles(part, files); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status HashFiles(const DirectoryPart& part, std::vector<ResultFile>& files) const {
    const std::string path = part.directory.empty()
                                 ? job_.prepared.output_path
                                 : InDirectory(job_.prepared.output_path, part.directory);
    absl::StatusOr<Directory> directory = Directory::OpenRoot(path);
    if (!directory.ok()) return directory.status();
    std::string buffer;
    for (const std::string& name : part.names) {
      const absl::StatusOr<File> file = directory->OpenForReading(name);
      if (!file.ok()) return file.status();
      const absl::StatusOr<int64_t> size = file->SizeBytes();
      if (!size.ok()) return size.status();
      Sha256 sha256;
      while (sha256.size_bytes() < *size) {
        if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
        buffer.resize(static_cast<size_t>(std::min(kReadBytes, *size - sha256.size_bytes())));
        absl::Status read =
            file->ReadAt(sha256.size_bytes(), absl::MakeSpan(&buffer[0], buffer.size()));
        if (!read.ok()) return read;
        sha256.Update(buffer);
      }
      files.push_back({InDirectory(part.directory, name), DigestOf(sha256), {}});
    }
    return absl::OkStatus();
  }

  RunningJob& job_;
  std::optional<AppearingDirectory> parent_;
  std::vector<DirectoryPart> parts_;  // They stand after their parent, so that they go first.
  std::vector<QuantizedCheckpointPlan> plans_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<JobOutput>> OpenDirectoryOutput(
    RunningJob& job, absl::Span<const QuantizedCheckpointPlan> plans) {
  std::optional<AppearingDirectory> parent;
  if (job.prepared.outputs.size() > 1) {
    auto created = AppearingDirectory::Create(job.prepared.output_path);
    if (!created.ok()) return WithField(PathError(created.status()), "quantize.output_path");
    parent = *std::move(created);
  }
  auto output = std::make_unique<DirectoryOutput>(job, std::move(parent));
  const bool plan_is_final = std::get<QuantizeTask>(job.spec.task).max_relative_error == 0;
  for (size_t i = 0; i < plans.size(); ++i) {
    const std::string& directory = job.prepared.outputs[i].directory;
    absl::Status status = output->AddPart(directory, plans[i], plan_is_final);
    if (!status.ok()) return WithField(PathError(status), "quantize.output_path");
  }
  return output;
}

}  // namespace salient
