#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/shard_index.h"
#include "core/result/quantization_config.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/layout.h"
#include "core/tensor/named_tensor.h"
#include "proto/wire/sha256.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_output.h"
#include "server/jobs/output_directories.h"
#include "server/jobs/pending_tensor.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/running_job.h"
#include "server/store/blob_reader.h"
#include "server/store/digest.h"

namespace salient {
namespace {

constexpr size_t kBytesAtOnce = size_t{32} << 20;

absl::string_view AsText(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

absl::Status StoreError(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return status;
  return WithRetryAfter(WithReason(status, Reason::kSpoolFull), absl::Minutes(1));
}

// Is one result, as far as it is there.
struct BlobPart {
  std::string directory;  // It is empty if the job has this result alone.
  std::map<std::string, Digest> tensors = {};
};

class BlobOutput final : public JobOutput {
 public:
  explicit BlobOutput(RunningJob& job) : job_(job) {
    for (const PreparedOutput& output : job.prepared.outputs) parts_.push_back({output.directory});
  }

  // Some at a time: together they are synced faster, and a stop is not kept waiting for long.
  absl::Status AddTensors(size_t output, absl::Span<const NamedTensor> tensors) override {
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
        absl::Status status =
            Announce(parts_[output], {tensor.name, tensor.dtype, tensor.shape}, (*digests)[i]);
        if (!status.ok()) return status;
      }
      tensors.remove_prefix(contents.size());
    }
    return absl::OkStatus();
  }

  absl::Status Settle(std::vector<QuantizedCheckpointPlan> plans) override {
    plans_ = std::move(plans);
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
    if (!digest.ok()) return StoreError(digest.status());
    for (BlobPart& part : parts_) {
      if (absl::Status status = Announce(part, tensor, *digest); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Finish() override {
    const absl::StatusOr<std::vector<CarriedFile>> carried = CarriedFiles(job_.prepared.model);
    if (!carried.ok()) return carried.status();
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (absl::Status status = FinishPart(parts_[i], plans_[i], *carried); !status.ok()) {
        return status;
      }
    }
    return bytes_;
  }

 private:
  absl::Status FinishPart(const BlobPart& part, const QuantizedCheckpointPlan& plan,
                          const std::vector<CarriedFile>& carried) {
    for (const QuantizedFile& file : plan.files) {
      if (absl::Status status = FinishSafetensors(part, file); !status.ok()) return status;
    }
    absl::Status status;
    if (!plan.index_json.empty()) {
      status = FinishWhole(InDirectory(part.directory, kShardIndexName), plan.index_json);
    }
    if (status.ok()) {
      status = FinishWhole(InDirectory(part.directory, kConfigName), plan.config_json);
    }
    if (status.ok() && !plan.quantize_config_json.empty()) {
      status =
          FinishWhole(InDirectory(part.directory, kQuantizeConfigName), plan.quantize_config_json);
    }
    for (const CarriedFile& file : carried) {
      if (status.ok()) status = Carry(InDirectory(part.directory, file.name), file);
    }
    return status;
  }

  absl::Status Announce(BlobPart& part, const TensorShape& tensor, const Digest& digest) {
    if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
    part.tensors[tensor.name] = digest;
    job_.observer.Happened(TensorReady{tensor.name, tensor.dtype, tensor.shape, digest,
                                       /*provisional=*/job_.prepared.model.path.empty(),
                                       part.directory});
    return absl::OkStatus();
  }

  // Computes the digest of the whole by reading its parts, which need not fit into memory together.
  absl::Status FinishSafetensors(const BlobPart& part, const QuantizedFile& file) {
    absl::StatusOr<Digest> head = job_.results.Put(file.layout.head);
    if (!head.ok()) return StoreError(head.status());
    ResultFile result{InDirectory(part.directory, file.name), {}, {*head}};
    for (const SafetensorsLayout::Place& place : file.layout.places) {
      const auto found = part.tensors.find(place.tensor.name);
      if (found == part.tensors.end() || found->second.size_bytes != place.end - place.begin) {
        return CallError(absl::StatusCode::kInternal, Reason::kInternal,
                         absl::StrCat("tensor ", place.tensor.name, " of ", file.name,
                                      " was not made with the size that was planned"));
      }
      result.parts.push_back(found->second);
    }
    Sha256 sha256;
    for (const Digest& piece : result.parts) {
      absl::StatusOr<BlobReader> reader = job_.store.Read(piece);
      if (!reader.ok()) return WithReason(reader.status(), Reason::kBlobDamaged);
      while (reader->next_offset() < reader->end_offset()) {
        if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
        const absl::StatusOr<std::string> bytes = reader->Next(kReadBytes);
        if (!bytes.ok()) return WithReason(bytes.status(), Reason::kBlobDamaged);
        sha256.Update(*bytes);
      }
    }
    result.digest = DigestOf(sha256);
    return Tell(std::move(result));
  }

  absl::Status FinishWhole(const std::string& name, absl::string_view content) {
    const absl::StatusOr<Digest> digest = job_.results.Put(content);
    if (!digest.ok()) return StoreError(digest.status());
    return Tell({name, *digest, {*digest}});
  }

  absl::Status Carry(const std::string& name, const CarriedFile& file) {
    if (!file.path.empty()) {
      const absl::StatusOr<std::string> content = ReadTextFile(file.path, kMaxCarriedBytes);
      if (!content.ok()) return WithModelReason(content.status());
      return FinishWhole(name, *content);
    }
    absl::Status whole = job_.store.Verify(file.blob, [this] { return job_.stop.Check(); });
    if (absl::IsDataLoss(whole)) {
      whole = WithReason(absl::DataLossError(absl::StrCat(file.name, ": ", whole.message())),
                         Reason::kBlobDamaged);
    }
    if (!whole.ok()) return whole;
    job_.results.Keep(file.blob);
    return Tell({name, file.blob, {file.blob}});
  }

  absl::Status Tell(ResultFile file) {
    if (absl::Status stopped = job_.stop.Check(); !stopped.ok()) return stopped;
    bytes_ += file.digest.size_bytes;
    job_.observer.Happened(std::move(file));
    return absl::OkStatus();
  }

  RunningJob& job_;
  std::vector<BlobPart> parts_;
  std::vector<QuantizedCheckpointPlan> plans_;
  std::unique_ptr<PendingTensor> pending_;
  int64_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<JobOutput>> OpenBlobOutput(RunningJob& job) {
  return std::make_unique<BlobOutput>(job);
}

}  // namespace salient
