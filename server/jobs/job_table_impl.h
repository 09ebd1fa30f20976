// The table that JobTable::Create makes.
#ifndef SALIENT_SERVER_JOBS_JOB_TABLE_IMPL_H_
#define SALIENT_SERVER_JOBS_JOB_TABLE_IMPL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/jobs/job_names.h"
#include "server/jobs/job_record.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/job_table.h"
#include "server/jobs/result_blobs.h"

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

  // These are called with mu_ held.
  absl::StatusOr<RecordPtr> Find(absl::string_view name) const;
  // Returns null if there is none.
  absl::StatusOr<RecordPtr> FindSame(absl::string_view serialized_spec, absl::string_view job_id,
                                     absl::string_view request_id) const;
  absl::Status CheckAdmission() const;
  void Stop(JobRecord& job, JobState state, absl::Status error);
  void End(JobRecord& job, JobState state, absl::Status error);
  bool IsReady(const JobRecord& job) const;
  bool HasRoomNow(const JobRecord& job) const;
  absl::Time Keep(absl::Time now, std::vector<RecordPtr>& changed);
  void StartReady(absl::Time now, std::vector<RecordPtr>& changed);
  void Start(const RecordPtr& job, absl::Time now);
  void Forget(const RecordPtr& job);
  JobSnapshot SnapshotLocked(const JobRecord& job) const;

  // These are called without mu_ held.

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

  mutable std::mutex mu_;  // It guards all below.
  std::condition_variable changed_;
  std::condition_variable idle_;                       // It tells that nothing runs.
  std::map<int64_t, RecordPtr, std::greater<>> jobs_;  // They stand by sequence, newest first.
  absl::flat_hash_map<std::string, RecordPtr> by_id_;
  int64_t next_sequence_ = 1;
  int64_t queued_ = 0;
  std::vector<RecordPtr> running_;   // They stand in the order in which they began.
  int64_t idle_resident_bytes_ = 0;  // The process had it when the first of them began.
  std::vector<RecordPtr> forgotten_;
  std::vector<std::shared_ptr<const JobWork>> released_;  // They belonged to jobs that ended.
  absl::AnyInvocable<void(const TimedGroupReport&)> observe_group_;
  std::vector<std::thread> finished_;  // These threads are to be joined.
  int64_t succeeded_total_ = 0;
  int64_t failed_total_ = 0;
  int64_t cancelled_total_ = 0;
  bool look_again_ = false;
  bool draining_ = false;
  bool closing_ = false;
  std::thread keeper_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_TABLE_IMPL_H_
