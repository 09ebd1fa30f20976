#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/shard_index.h"
#include "core/quantization_config.h"
#include "server/jobs/job_output.h"
#include "server/store/file.h"
#include "server/workers/call_error.h"

namespace salient {
namespace {

constexpr int64_t kHeldTensorBytes = int64_t{32} << 20;  // larger ones go through a file
constexpr size_t kBytesAtOnce = size_t{32} << 20;
constexpr int64_t kReadBytes = int64_t{1} << 20;
constexpr int64_t kMaxCarriedBytes = int64_t{1} << 30;

absl::string_view AsText(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

absl::Status StoreError(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return status;
  return WithRetryAfter(WithReason(status, Reason::kSpoolFull), absl::Minutes(1));
}

// A tensor whose digest is not known before all of it passed: in memory, or in a file.
class PendingTensor {
 public:
  PendingTensor(std::string directory, TensorShape tensor)
      : directory_(std::move(directory)), tensor_(std::move(tensor)) {}

  const TensorShape& tensor() const { return tensor_; }
  bool IsWhole() const { return sha256_.size_bytes() == tensor_.SizeBytes(); }

  absl::Status Append(int64_t offset, absl::string_view bytes) {
    if (offset != sha256_.size_bytes()) {
      return absl::InternalError(absl::StrCat("tensor ", tensor_.name, ": bytes at ", offset,
                                              " after ", sha256_.size_bytes()));
    }
    sha256_.Update(bytes);
    if (tensor_.SizeBytes() <= kHeldTensorBytes) {
      absl::StrAppend(&held_, bytes);
      return absl::OkStatus();
    }
    if (!file_.is_open()) {
      absl::StatusOr<Directory> directory = Directory::OpenRoot(directory_);
      if (!directory.ok()) return directory.status();
      absl::StatusOr<File> file = directory->OpenForWriting(kFileName);
      if (!file.ok()) return file.status();
      file_ = *std::move(file);
    }
    return file_.WriteAt(offset, bytes);
  }

  absl::StatusOr<Digest> Store(const CancelToken& stop, ResultBlobs::Hold& results) {
    if (!file_.is_open()) return results.Put(held_);
    const Digest digest = sha256_.Snapshot();
    absl::Status status = results.Write(digest, [&](Upload& upload) -> absl::Status {
      std::string buffer(kReadBytes, '\0');
      for (int64_t offset = 0; offset < digest.size_bytes;) {
        if (absl::Status stopped = stop.Check(); !stopped.ok()) return stopped;
        buffer.resize(static_cast<size_t>(std::min(kReadBytes, digest.size_bytes - offset)));
        absl::Status moved = file_.ReadAt(offset, absl::MakeSpan(&buffer[0], buffer.size()));
        if (moved.ok()) moved = upload.Append(offset, buffer);
        if (!moved.ok()) return moved;
        offset += static_cast<int64_t>(buffer.size());
      }
      return absl::OkStatus();
    });
    // The next one begins with an empty file.
    if (status.ok()) status = file_.Truncate(0);
    if (!status.ok()) return status;
    return digest;
  }

 private:
  static constexpr char kFileName[] = "tensor";
  const std::string directory_;
  const TensorShape tensor_;
  Sha256 sha256_;
  std::string held_;
  File file_;
};

class BlobOutput final : public JobOutput {
 public:
  explicit BlobOutput(RunningJob& job) : job_(job) {}

  // Some at a time: together they are synced faster, and a stop is not kept waiting for long.
  absl::Status AddTensors(absl::Span<const NamedTensor> tensors) override {
    while (!tensors.empty()) {
      if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
      std::vector<absl::string_view> contents;
      for (size_t bytes = 0; contents.size() < tensors.size() && bytes < kBytesAtOnce;) {
        contents.push_back(AsText(tensors[contents.size()].data));
        bytes += contents.back().size();
      }
      const absl::StatusOr<std::vector<Digest>> digests = job_.results.PutAll(contents);
      if (!digests.ok()) return StoreError(digests.status());
      for (size_t i = 0; i < digests->size(); ++i) {
        const NamedTensor& tensor = tensors[i];
        absl::Status status = Announce({tensor.name, tensor.dtype, tensor.shape}, (*digests)[i]);
        if (!status.ok()) return status;
      }
      tensors.remove_prefix(contents.size());
    }
    return absl::OkStatus();
  }

  absl::Status AddBytes(const TensorShape& tensor, int64_t offset,
                        absl::Span<const std::byte> bytes) override {
    if (pending_ == nullptr || pending_->tensor().name != tensor.name) {
      pending_ = std::make_unique<PendingTensor>(job_.work_directory, tensor);
    }
    if (absl::Status status = pending_->Append(offset, AsText(bytes)); !status.ok()) {
      return StoreError(status);
    }
    if (!pending_->IsWhole()) return absl::OkStatus();
    const absl::StatusOr<Digest> digest = pending_->Store(job_.stop, job_.results);
    pending_.reset();
    return Announce(tensor, digest);
  }

  absl::StatusOr<int64_t> Finish() override {
    const QuantizedCheckpointPlan& plan = job_.prepared.plan;
    for (const QuantizedFile& file : plan.files) {
      if (absl::Status status = FinishSafetensors(file); !status.ok()) return status;
    }
    if (!plan.index_json.empty()) {
      absl::Status status = FinishWhole(kShardIndexName, plan.index_json);
      if (!status.ok()) return status;
    }
    if (absl::Status status = FinishWhole(kConfigName, plan.config_json); !status.ok()) {
      return status;
    }
    if (!plan.quantize_config_json.empty()) {
      absl::Status status = FinishWhole(kQuantizeConfigName, plan.quantize_config_json);
      if (!status.ok()) return status;
    }
    const absl::StatusOr<std::vector<CarriedFile>> carried = CarriedFiles(job_.prepared.model);
    if (!carried.ok()) return carried.status();
    for (const CarriedFile& file : *carried) {
      if (absl::Status status = Carry(file); !status.ok()) return status;
    }
    return bytes_;
  }

 private:
  absl::Status Announce(const TensorShape& tensor, const absl::StatusOr<Digest>& digest) {
    if (!digest.ok()) return StoreError(digest.status());
    if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
    tensors_[tensor.name] = *digest;
    job_.observer.Happened(TensorReady{tensor.name, tensor.dtype, tensor.shape, *digest,
                                       /*provisional=*/job_.prepared.model.path.empty()});
    return absl::OkStatus();
  }

  // The digest of the whole by reading its parts, which need not fit into memory together.
  absl::Status FinishSafetensors(const QuantizedFile& file) {
    absl::StatusOr<Digest> head = job_.results.Put(file.layout.head);
    if (!head.ok()) return StoreError(head.status());
    ResultFile result{file.name, {}, {*head}};
    for (const SafetensorsLayout::Place& place : file.layout.places) {
      const auto found = tensors_.find(place.tensor.name);
      if (found == tensors_.end() || found->second.size_bytes != place.end - place.begin) {
        return CallError(absl::StatusCode::kInternal, Reason::kInternal,
                         absl::StrCat("tensor ", place.tensor.name, " of ", file.name,
                                      " was not made with the size that was planned"));
      }
      result.parts.push_back(found->second);
    }
    Sha256 sha256;
    for (const Digest& part : result.parts) {
      absl::StatusOr<BlobReader> reader = job_.store.Read(part);
      if (!reader.ok()) return WithReason(reader.status(), Reason::kBlobDamaged);
      while (reader->next_offset() < reader->end_offset()) {
        if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
        const absl::StatusOr<std::string> bytes = reader->Next(kReadBytes);
        if (!bytes.ok()) return WithReason(bytes.status(), Reason::kBlobDamaged);
        sha256.Update(*bytes);
      }
    }
    result.digest = sha256.Snapshot();
    return Tell(std::move(result));
  }

  absl::Status FinishWhole(const std::string& name, absl::string_view content) {
    const absl::StatusOr<Digest> digest = job_.results.Put(content);
    if (!digest.ok()) return StoreError(digest.status());
    return Tell({name, *digest, {*digest}});
  }

  absl::Status Carry(const CarriedFile& file) {
    if (!file.path.empty()) {
      const absl::StatusOr<std::string> content = ReadTextFile(file.path, kMaxCarriedBytes);
      if (!content.ok()) return WithModelReason(content.status());
      return FinishWhole(file.name, *content);
    }
    job_.results.Keep(file.blob);
    return Tell({file.name, file.blob, {file.blob}});
  }

  absl::Status Tell(ResultFile file) {
    if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
    bytes_ += file.digest.size_bytes;
    job_.observer.Happened(std::move(file));
    return absl::OkStatus();
  }

  RunningJob& job_;
  std::map<std::string, Digest> tensors_;
  std::unique_ptr<PendingTensor> pending_;
  int64_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<JobOutput>> OpenBlobOutput(RunningJob& job) {
  return std::make_unique<BlobOutput>(job);
}

}  // namespace salient
