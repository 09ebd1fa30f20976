// The table that JobTable::Create makes.
#ifndef SALIENT_SERVER_JOBS_JOB_TABLE_IMPL_H_
#define SALIENT_SERVER_JOBS_JOB_TABLE_IMPL_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/parallel/mutex.h"
#include "server/jobs/job.h"
#include "server/jobs/job_names.h"
#include "server/jobs/job_record.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/job_table.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/result_blobs.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/workers/cancel_token.h"

namespace salient {

// One thread keeps the table: it starts jobs whose turn has come, ends those whose time is over,
// and frees what was forgotten, so that nobody else waits for a disk.
class JobTableImpl final : public JobTable {
 public:
  JobTableImpl(const JobTableSettings& settings, BlobStore& store, WorkerPool& pool);
  ~JobTableImpl() override;

  absl::StatusOr<JobSnapshot> Submit(JobSpec spec, absl::string_view job_id,
                                     absl::string_view request_id, bool validate_only,
                                     const CancelToken& stop) override;
  absl::StatusOr<JobSnapshot> Get(absl::string_view name) const override;
  absl::StatusOr<Page> List(int page_size, absl::string_view page_token,
                            const std::vector<JobState>& states) const override;
  absl::StatusOr<JobSnapshot> Cancel(absl::string_view name) override;
  absl::Status Delete(absl::string_view name) override;
  absl::StatusOr<std::unique_ptr<JobWatch>> Watch(absl::string_view name, int64_t after_revision,
                                                  absl::AnyInvocable<void()> wake) override;
  void BlobChanged(const Digest& digest) override;
  void ObserveGroups(absl::AnyInvocable<void(const TimedGroupReport&)> observe) override;
  void Drain() override;
  bool WaitUntilIdle(absl::Duration timeout) override;
  void EndAll() override;
  Stats GetStats() const override;

 private:
  using RecordPtr = std::shared_ptr<JobRecord>;
  class Observer;

  absl::StatusOr<RecordPtr> Find(absl::string_view name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Returns null if there is none.
  absl::StatusOr<RecordPtr> FindSame(absl::string_view serialized_spec, absl::string_view job_id,
                                     absl::string_view request_id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckAdmission() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Stop(JobRecord& job, JobState state, absl::Status error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(JobRecord& job, JobState state, absl::Status error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool IsReady(const JobRecord& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasRoomNow(const JobRecord& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Time Keep(absl::Time now, std::vector<RecordPtr>& changed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StartReady(absl::Time now, std::vector<RecordPtr>& changed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Start(const RecordPtr& job, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Forget(const RecordPtr& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  JobSnapshot SnapshotLocked(const JobRecord& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Hides the paths of the server's directories.
  absl::Status WithoutPaths(const absl::Status& status) const;
  // These say what a job that is judged will find of the process's memory when it runs.
  struct ProcessBytes {
    int64_t bytes = 0;
    int64_t of_request = 0;  // It came since the job is judged.
  };
  ProcessBytes MeasureProcess(int64_t resident_before) const;
  // `job_bytes` of the estimate are the job's own.
  absl::Status CheckRoom(const PreparedJob& job, const JobEstimate& estimate,
                         int64_t job_bytes) const;
  JobSnapshot Snapshot(const JobRecord& job) const;
  void KeepTable();
  void Run(const RecordPtr& job);

  const JobTableSettings settings_;
  BlobStore& store_;
  WorkerPool& pool_;
  ResultBlobs blobs_;
  const PageTokens page_tokens_;
  const int64_t first_resident_bytes_;  // The process had so many before any job.
  std::atomic<int64_t> tokens_total_{0};
  std::atomic<int64_t> parameters_total_{0};

  mutable Mutex mu_;
  ConditionVariable changed_;
  ConditionVariable idle_;  // It tells that nothing runs.
  // They stand by sequence, newest first.
  std::map<int64_t, RecordPtr, std::greater<>> jobs_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, RecordPtr> by_id_ ABSL_GUARDED_BY(mu_);
  int64_t next_sequence_ ABSL_GUARDED_BY(mu_) = 1;
  int64_t queued_ ABSL_GUARDED_BY(mu_) = 0;
  // They stand in the order in which they began.
  std::vector<RecordPtr> running_ ABSL_GUARDED_BY(mu_);
  // The process had it when the first of them began.
  int64_t idle_resident_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<RecordPtr> forgotten_ ABSL_GUARDED_BY(mu_);
  // They belonged to jobs that ended.
  std::vector<std::shared_ptr<const JobWork>> released_ ABSL_GUARDED_BY(mu_);
  absl::AnyInvocable<void(const TimedGroupReport&)> observe_group_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> finished_ ABSL_GUARDED_BY(mu_);  // These threads are to be joined.
  int64_t succeeded_total_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t failed_total_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t cancelled_total_ ABSL_GUARDED_BY(mu_) = 0;
  bool look_again_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::thread keeper_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_TABLE_IMPL_H_
