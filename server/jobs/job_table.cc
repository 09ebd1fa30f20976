#include "server/jobs/job_table.h"

#include <utility>

#include "server/jobs/job_runner.h"
#include "server/jobs/job_table_impl.h"

namespace salient {

absl::StatusOr<std::unique_ptr<JobTable>> JobTable::Create(const JobTableSettings& settings,
                                                           BlobStore& store, WorkerPool& pool) {
  if (absl::Status status = PrepareWorkDirectory(settings.work_directory); !status.ok()) {
    return status;
  }
  return std::make_unique<JobTableImpl>(settings, store, pool);
}

}  // namespace salient
