#include "server/jobs/job_output.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_files.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/prepared_model.h"
#include "server/store/digest.h"

namespace salient {

absl::StatusOr<std::vector<CarriedFile>> CarriedFiles(const PreparedModel& model) {
  std::vector<CarriedFile> carried;
  if (model.path.empty()) {
    for (const ModelFile& file : model.manifest.carried) {
      carried.push_back({file.name, "", file.digest});
    }
    return carried;
  }
  const absl::StatusOr<std::vector<DirectoryFile>> files = ListModelDirectory(model.path);
  if (!files.ok()) return WithModelReason(files.status());
  for (const DirectoryFile& file : *files) {
    if (file.role != FileRole::kCarried) continue;
    carried.push_back({file.name, absl::StrCat(model.path, "/", file.name), Digest()});
  }
  return carried;
}

absl::StatusOr<std::unique_ptr<JobOutput>> OpenOutput(
    RunningJob& job, absl::Span<const QuantizedCheckpointPlan> plans) {
  return job.prepared.output_path.empty() ? OpenBlobOutput(job) : OpenDirectoryOutput(job, plans);
}

}  // namespace salient
