#include "server/jobs/job_runner.h"

#include <pthread.h>

#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"
#include "server/error/call_error.h"
#include "server/jobs/evaluate_job.h"
#include "server/jobs/inspect_job.h"
#include "server/jobs/job.h"
#include "server/jobs/job_progress.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/quantize_job.h"
#include "server/jobs/study_job.h"
#include "server/store/blob_store.h"
#include "server/workers/io_thread.h"

namespace salient {
namespace {

namespace fs = std::filesystem;

constexpr char kDirectorySuffix[] = ".job";

absl::Status DirectoryError(const std::string& path, const std::error_code& error) {
  return WithReason(absl::ErrnoToStatus(error.value(), absl::StrCat(path, ": cannot make it")),
                    Reason::kInternal);
}

absl::StatusOr<JobOutcome> RunTask(RunningJob& job, absl::FunctionRef<void()> verified) {
  if (std::holds_alternative<QuantizeTask>(job.spec.task)) return RunQuantizeJob(job, verified);
  if (std::holds_alternative<InspectTask>(job.spec.task)) return RunInspectJob(job);
  absl::StatusOr<JobOutcome> outcome = std::holds_alternative<StudyTask>(job.spec.task)
                                           ? RunStudyJob(job, verified)
                                           : RunEvaluateJob(job, verified);
  absl::Status same = job.prepared.model.CheckUnchanged();
  if (same.ok() && job.prepared.reference.has_value()) {
    same = job.prepared.reference->CheckUnchanged();
  }
  if (!same.ok()) return same;
  return outcome;
}

}  // namespace

absl::StatusOr<JobOutcome> RunJob(JobRecord& job, const std::string& work_directory,
                                  BlobStore& store, WorkerPool& pool, JobObserver& observer,
                                  absl::FunctionRef<void()> verified) {
  pthread_setname_np(pthread_self(), "salient-job");
  LimitThreadToItself();  // Little is computed here, between loops.
  const std::string directory = absl::StrCat(work_directory, "/", job.id, kDirectorySuffix);
  std::error_code error;
  fs::remove_all(directory, error);
  if (!fs::create_directory(directory, error)) return DirectoryError(directory, error);
  const absl::Cleanup remove = [&directory] {
    std::error_code ignored;
    fs::remove_all(directory, ignored);
  };
  IoThread io(pool.wall_times());
  PoolExecutor executor(pool, job.stop, &io);
  const std::shared_ptr<const JobWork> work = job.work;  // It is held until the job has ended.
  PreparedJob prepared = work->prepared;
  RunningJob running{work->spec, prepared, store,    job.results,   *job.arrival,
                     job.stop,   executor, observer, *job.progress, directory};
  absl::StatusOr<JobOutcome> outcome = RunTask(running, verified);
  if (outcome.ok()) return outcome;
  return WithReason(WithModelReason(outcome.status()), DetailsOf(outcome.status()).reason);
}

absl::Status PrepareWorkDirectory(const std::string& work_directory) {
  std::error_code error;
  fs::create_directories(work_directory, error);
  // Hidden states tell what was calibrated with.
  if (!error) fs::permissions(work_directory, fs::perms::owner_all, error);
  if (error) return DirectoryError(work_directory, error);
  for (const fs::directory_entry& entry : fs::directory_iterator(work_directory, error)) {
    std::error_code ignored;
    if (entry.path().extension() == kDirectorySuffix) fs::remove_all(entry.path(), ignored);
  }
  if (error) return DirectoryError(work_directory, error);
  return absl::OkStatus();
}

}  // namespace salient
