// Is a table of jobs that says what a test put into it.
#ifndef SALIENT_TESTS_SERVER_OBSERVE_FAKE_JOB_TABLE_H_
#define SALIENT_TESTS_SERVER_OBSERVE_FAKE_JOB_TABLE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "server/store/digest.h"
#include "server/workers/cancel_token.h"

namespace salient {

class FakeJobTable final : public JobTable {
 public:
  Stats stats;
  std::map<std::string, JobSnapshot> jobs;

  Stats GetStats() const override { return stats; }
  absl::StatusOr<JobSnapshot> Get(absl::string_view name) const override {
    const auto found = jobs.find(std::string(name));
    if (found == jobs.end()) return absl::NotFoundError(name);
    return found->second;
  }

  absl::StatusOr<JobSnapshot> Submit(JobSpec, absl::string_view, absl::string_view, bool,
                                     const CancelToken&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<Page> List(int, absl::string_view, const std::vector<JobState>&) const override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<JobSnapshot> Cancel(absl::string_view) override {
    return absl::UnimplementedError("");
  }
  absl::Status Delete(absl::string_view) override { return absl::UnimplementedError(""); }
  absl::StatusOr<std::unique_ptr<JobWatch>> Watch(absl::string_view, int64_t,
                                                  absl::AnyInvocable<void()>) override {
    return absl::UnimplementedError("");
  }
  void BlobChanged(const Digest&) override {}
  void ObserveGroups(absl::AnyInvocable<void(const TimedGroupReport&)>) override {}
  void Drain() override {}
  bool WaitUntilIdle(absl::Duration) override { return true; }
  void EndAll() override {}
};

}  // namespace salient

#endif  // SALIENT_TESTS_SERVER_OBSERVE_FAKE_JOB_TABLE_H_
