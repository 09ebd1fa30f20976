#include "server/observe/job_lines.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/observe/logs.h"

namespace salient {
namespace {

absl::string_view Name(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "queued";
    case JobState::kRunning:
      return "running";
    case JobState::kSucceeded:
      return "succeeded";
    case JobState::kFailed:
      return "failed";
    case JobState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

}  // namespace

std::string JobLines::AcceptedText(const JobSnapshot& job) {
  return absl::StrFormat(
      "job name=%s state=%s missing_blobs=%d estimated_seconds=%.0f estimated_memory_bytes=%d",
      job.name, Name(job.state), job.missing.size(), job.estimate.seconds,
      job.estimate.peak_memory_bytes);
}

std::string JobLines::EndedText(const JobSnapshot& job) {
  std::string text = absl::StrFormat(
      "job name=%s state=%s seconds=%.3f parameters=%d bytes_in=%d bytes_out=%d "
      "peak_memory_bytes=%d",
      job.name, Name(job.state), job.usage.seconds, job.usage.parameters, job.usage.bytes_in,
      job.usage.bytes_out, job.usage.peak_memory_bytes);
  if (!job.error.ok()) {
    absl::StrAppend(&text, " reason=", salient::Name(DetailsOf(job.error).reason), " message=\"",
                    absl::Utf8SafeCEscape(job.error.message().substr(0, kMaxLoggedBytes)), "\"");
  }
  return text;
}

void JobLines::Accepted(const JobSnapshot& job) {
  {
    const MutexLock lock(mu_);
    if (HasEnded(job.state) || !alive_.insert(job.name).second) return;
  }
  LogInfo(AcceptedText(job));
}

void JobLines::Look() {
  const JobTable::Stats stats = jobs_.GetStats();
  const int64_t ended = stats.succeeded_total + stats.failed_total + stats.cancelled_total;
  std::vector<std::string> names;
  {
    const MutexLock lock(mu_);
    if (ended == ended_) return;
    ended_ = ended;
    names.assign(alive_.begin(), alive_.end());
  }
  for (const std::string& name : names) {
    const absl::StatusOr<JobSnapshot> job = jobs_.Get(name);
    if (job.ok() && !HasEnded(job->state)) continue;
    {
      const MutexLock lock(mu_);
      if (alive_.erase(name) == 0) continue;  // Another look had it.
    }
    if (!job.ok()) {
      LogInfo(absl::StrCat("job name=", name, " state=deleted"));
    } else if (job->state == JobState::kFailed) {
      LogWarning(EndedText(*job));
    } else {
      LogInfo(EndedText(*job));
    }
  }
}

}  // namespace salient
