#include "server/jobs/job_sources.h"

#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/prepared_model.h"
#include "server/store/blob_reader.h"
#include "server/store/digest.h"

namespace salient {
namespace {

// Returns what errors call the blob: its name among the files of a model, or that of the tokens.
std::string NameOf(const JobSpec& spec, const Digest& digest) {
  std::vector<const ModelSource*> models = {&spec.model};
  std::vector<const TokenBlob*> tokens;
  if (const auto* quantize = std::get_if<QuantizeTask>(&spec.task)) {
    tokens = {&quantize->calibration};
  } else if (const auto* evaluate = std::get_if<EvaluateTask>(&spec.task)) {
    tokens = {&evaluate->tokens};
    if (evaluate->reference.has_value()) models.push_back(&*evaluate->reference);
  } else if (const auto* study = std::get_if<StudyTask>(&spec.task)) {
    tokens = {&study->calibration, &study->evaluation};
  }
  for (const ModelSource* model : models) {
    for (const ModelFile& file : model->files) {
      if (file.digest == digest) return file.name;
    }
  }
  for (const TokenBlob* source : tokens) {
    if (source->tokens == digest) return source->name;
  }
  return ToString(digest);
}

// Returns whether other bytes may have led to another end.
bool MayBeForItsBytes(const absl::Status& status) {
  switch (DetailsOf(WithModelReason(status)).reason) {
    case Reason::kMissingBlob:
    case Reason::kBlobDamaged:
    case Reason::kSpoolFull:
    case Reason::kMemory:
    case Reason::kBadPath:
    case Reason::kCancelled:
    case Reason::kDeadlineExceeded:
    case Reason::kDraining:
      return false;
    default:
      return true;
  }
}

}  // namespace

absl::StatusOr<std::string> ReadSource(absl::string_view file, const Digest& digest,
                                       BlobStore& store) {
  absl::StatusOr<BlobReader> reader = store.Read(digest);
  if (absl::IsNotFound(reader.status())) return WithReason(reader.status(), Reason::kMissingBlob);
  absl::Status status = reader.status();
  absl::StatusOr<std::string> content;
  if (status.ok()) {
    content = reader->Next(digest.size_bytes + 1);
    status = content.status();
  }
  // Verify takes it out of the store.
  if (status.ok() && DigestOf(*content) != digest) status = store.Verify(digest);
  if (status.ok()) return content;
  return WithReason(absl::Status(status.code(), absl::StrCat(file, ": ", status.message())),
                    Reason::kBlobDamaged);
}

absl::Status WaitForSources(RunningJob& job) {
  for (const Digest& digest : job.prepared.needed) {
    absl::Status status = job.arrival.WaitUntilComplete(NameOf(job.spec, digest), digest);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status VerifySourcesHere(RunningJob& job) {
  for (const Digest& digest : job.prepared.needed) {
    if (!job.store.Status(digest).complete) continue;
    absl::Status status = job.arrival.WaitUntilComplete(NameOf(job.spec, digest), digest);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status HoldAgainstBlobs(RunningJob& job, const ArrivingCheckpoint& arriving,
                              const absl::Status& status) {
  if (absl::Status stopped = job.stop.Check(); !stopped.ok()) return stopped;
  if (!status.ok() && (absl::IsAborted(status) || !MayBeForItsBytes(status))) return status;
  absl::Status settled = arriving.HoldAgainstBlobs();
  return settled.ok() ? status : settled;
}

}  // namespace salient
