// Writes a line in the log when a job was accepted, another when it ended.
#ifndef SALIENT_SERVER_OBSERVE_JOB_LINES_H_
#define SALIENT_SERVER_OBSERVE_JOB_LINES_H_

#include <cstdint>
#include <set>
#include <string>

#include "core/parallel/mutex.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"

namespace salient {

// Is thread-safe and borrows the table. Ends are looked for, not told: jobs know of no log.
class JobLines {
 public:
  explicit JobLines(const JobTable& jobs) : jobs_(jobs) {}

  // Says that `job` was accepted; said again of the same one it writes nothing.
  void Accepted(const JobSnapshot& job);

  // Writes the lines of those that ended since the last time. Cheap if none did.
  void Look();

  // Returns the text of a line.
  static std::string AcceptedText(const JobSnapshot& job);
  static std::string EndedText(const JobSnapshot& job);

 private:
  const JobTable& jobs_;
  Mutex mu_;
  std::set<std::string> alive_ ABSL_GUARDED_BY(mu_);
  int64_t ended_ ABSL_GUARDED_BY(mu_) = 0;  // So many jobs had ended at the last look.
};

}  // namespace salient

#endif  // SALIENT_SERVER_OBSERVE_JOB_LINES_H_
