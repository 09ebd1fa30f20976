#include "server/observe/job_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/observe/logs.h"
#include "tests/server/observe/fake_job_table.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

JobSnapshot Job(const std::string& name, JobState state) {
  JobSnapshot job;
  job.name = name;
  job.state = state;
  job.usage.seconds = 1.25;
  return job;
}

TEST(JobLinesTest, AJobIsSaidOnceWhenAcceptedAndOnceWhenItEnded) {
  StartLogging("info");
  FakeJobTable table;
  JobLines lines(table);
  table.jobs["jobs/a"] = Job("jobs/a", JobState::kQueued);
  table.jobs["jobs/b"] = Job("jobs/b", JobState::kRunning);

  testing::internal::CaptureStderr();
  lines.Accepted(table.jobs["jobs/a"]);
  lines.Accepted(table.jobs["jobs/a"]);
  lines.Accepted(table.jobs["jobs/b"]);
  lines.Look();
  std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
  EXPECT_THAT(text, HasSubstr("info job name=jobs/a state=queued"));
  EXPECT_THAT(text, HasSubstr("info job name=jobs/b state=running"));

  JobSnapshot failed = Job("jobs/a", JobState::kFailed);
  failed.error = InvalidCall(Reason::kBadModel, "line\nfeed");
  table.jobs["jobs/a"] = failed;
  table.stats.failed_total = 1;
  testing::internal::CaptureStderr();
  lines.Look();
  lines.Look();
  text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_THAT(text, HasSubstr("warning job name=jobs/a state=failed seconds=1.250"));
  EXPECT_THAT(text, HasSubstr("reason=BAD_MODEL message=\"line\\nfeed\""));

  table.jobs.clear();  // They ended and were deleted between two looks.
  table.stats.cancelled_total = 1;
  testing::internal::CaptureStderr();
  lines.Look();
  text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("job name=jobs/b state=deleted"));
  EXPECT_THAT(text, Not(HasSubstr("jobs/a")));
}

}  // namespace
}  // namespace salient
