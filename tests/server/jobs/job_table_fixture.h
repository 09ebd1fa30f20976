// Provides a small model, tokens and a spec of them for tests of the job table.
#ifndef SALIENT_TESTS_SERVER_JOBS_JOB_TABLE_FIXTURE_H_
#define SALIENT_TESTS_SERVER_JOBS_JOB_TABLE_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "tests/server/jobs/job_fixture.h"
#include "tests/server/jobs/tiny_model.h"

namespace salient::testing {

class JobTableFixture : public ::testing::Test {
 protected:
  static TinyModel Small() {
    TinyModel model;
    model.layers = 1;
    return model;
  }
  JobSpec Spec() const { return JobBench::Quantize(JobBench::Manifest(model_), tokens_); }
  void SendAll(JobBench& bench) const {
    bench.SendAll(model_);
    ASSERT_TRUE(bench.Send(tokens_).ok());
  }
  // Returns why the spec is refused; the table stays as it was.
  static absl::Status Refusal(JobBench& bench, JobSpec spec) {
    const absl::Status status = bench.table().Submit(std::move(spec), "", "", false).status();
    EXPECT_TRUE(Must(bench.table().List(0, "", {})).jobs.empty());
    return status;
  }

  const Files model_ = MakeModel(Small());
  const std::string tokens_ = MakeTokens(2, 16, 40, 3);
};

inline void ExpectReason(const absl::Status& status, absl::StatusCode code, Reason reason,
                         absl::string_view part = "") {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_EQ(Name(DetailsOf(status).reason), Name(reason)) << status;
  EXPECT_NE(status.message().find(part), absl::string_view::npos) << status;
}

inline constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SERVER_JOBS_JOB_TABLE_FIXTURE_H_
