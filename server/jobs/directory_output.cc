#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/shard_index.h"
#include "core/quantization_config.h"
#include "server/jobs/job_output.h"
#include "server/store/file.h"
#include "server/workers/call_error.h"

namespace salient {
namespace {

constexpr int64_t kReadBytes = int64_t{1} << 20;
constexpr int64_t kMaxCarriedBytes = int64_t{1} << 30;

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

class DirectoryOutput final : public JobOutput {
 public:
  DirectoryOutput(RunningJob& job, CheckpointWriter writer)
      : job_(job), writer_(std::move(writer)) {}

  absl::Status AddFiles() {
    for (const QuantizedFile& file : job_.prepared.plan.files) {
      absl::Status status = writer_.AddSafetensors(file.name, file.layout);
      if (!status.ok()) return PathError(status);
      names_.push_back(file.name);
    }
    return absl::OkStatus();
  }

  absl::Status AddTensors(absl::Span<const NamedTensor> tensors) override {
    for (const NamedTensor& tensor : tensors) {
      if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
      absl::Status status = writer_.WriteTensor(tensor.name, 0, tensor.data);
      if (!status.ok()) return PathError(status);
    }
    return absl::OkStatus();
  }

  absl::Status AddBytes(const TensorShape& tensor, int64_t offset,
                        absl::Span<const std::byte> bytes) override {
    return PathError(writer_.WriteTensor(tensor.name, offset, bytes));
  }

  absl::StatusOr<int64_t> Finish() override {
    if (absl::Status status = WriteOthers(); !status.ok()) return PathError(status);
    if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
    if (absl::Status status = writer_.Commit(); !status.ok()) return PathError(status);
    // From here on the directory has its name. If the job does not succeed it goes again.
    absl::Cleanup remove = [this] {
      std::error_code ignored;
      std::filesystem::remove_all(job_.prepared.output_path, ignored);
    };
    absl::StatusOr<std::vector<ResultFile>> files = HashFiles();
    if (!files.ok()) return files.status();
    std::move(remove).Cancel();
    int64_t bytes = 0;
    for (ResultFile& file : *files) {
      bytes += file.digest.size_bytes;
      job_.observer.Happened(std::move(file));
    }
    return bytes;
  }

 private:
  absl::Status WriteOthers() {
    const QuantizedCheckpointPlan& plan = job_.prepared.plan;
    absl::Status status;
    if (!plan.index_json.empty()) {
      status = writer_.WriteFile(kShardIndexName, plan.index_json);
      names_.push_back(kShardIndexName);
    }
    if (status.ok()) status = writer_.WriteFile(kConfigName, plan.config_json);
    names_.push_back(kConfigName);
    if (status.ok() && !plan.quantize_config_json.empty()) {
      status = writer_.WriteFile(kQuantizeConfigName, plan.quantize_config_json);
      names_.push_back(kQuantizeConfigName);
    }
    if (!status.ok()) return status;
    const absl::StatusOr<std::vector<CarriedFile>> carried = CarriedFiles(job_.prepared.model);
    if (!carried.ok()) return carried.status();
    for (const CarriedFile& file : *carried) {
      status.Update(Carry(file));
      names_.push_back(file.name);
    }
    return status;
  }

  absl::Status Carry(const CarriedFile& file) {
    if (!file.path.empty()) return writer_.CopyFile(file.name, file.path);
    if (file.blob.size_bytes > kMaxCarriedBytes) {
      return InvalidCall(
          Reason::kBadModel,
          absl::StrCat(file.name, ": has ", file.blob.size_bytes, " bytes; expected at most ",
                       kMaxCarriedBytes, " of a file that is no weights"));
    }
    absl::StatusOr<BlobReader> reader = job_.store.Read(file.blob);
    if (!reader.ok()) return WithReason(reader.status(), Reason::kMissingBlob);
    const absl::StatusOr<std::string> content = reader->Next(kMaxCarriedBytes);
    if (!content.ok()) return content.status();
    return writer_.WriteFile(file.name, *content);
  }

  absl::StatusOr<std::vector<ResultFile>> HashFiles() const {
    absl::StatusOr<Directory> directory = Directory::OpenRoot(job_.prepared.output_path);
    if (!directory.ok()) return directory.status();
    std::vector<ResultFile> files;
    std::string buffer;
    for (const std::string& name : names_) {
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
      files.push_back({name, sha256.Snapshot(), {}});
    }
    return files;
  }

  RunningJob& job_;
  CheckpointWriter writer_;
  std::vector<std::string> names_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<JobOutput>> OpenDirectoryOutput(RunningJob& job) {
  absl::StatusOr<CheckpointWriter> writer = CheckpointWriter::Create(job.prepared.output_path);
  if (!writer.ok()) return WithField(PathError(writer.status()), "quantize.output_path");
  auto output = std::make_unique<DirectoryOutput>(job, *std::move(writer));
  if (absl::Status status = output->AddFiles(); !status.ok()) return status;
  return output;
}

}  // namespace salient
