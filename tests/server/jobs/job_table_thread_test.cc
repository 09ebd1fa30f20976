// Checks how jobs begin and end: their turn, their time, bytes that do not come, a server that
// stops.
#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_table_fixture.h"

namespace salient {
namespace {

using testing::ExpectReason;
using testing::Files;
using testing::JobBench;
using testing::MakeModel;
using testing::Must;
using testing::TinyModel;

using JobKeeperTest = testing::JobTableFixture;

TEST_F(JobKeeperTest, AJobThatWaitsForBytesDoesNotHoldUpOthersAndIsGivenUp) {
  JobBench bench(
      2, [](JobTableSettings& settings) { settings.stall_timeout = absl::Milliseconds(300); });
  TinyModel other = Small();
  other.seed = 5;
  const Files absent = MakeModel(other);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const std::string waits =
      bench.Submit(JobBench::Quantize(JobBench::Manifest(absent), tokens_)).name;
  SendAll(bench);
  const JobSnapshot done = bench.Finish(bench.Submit(Spec()).name);
  EXPECT_EQ(done.state, JobState::kSucceeded) << done.error;
  ExpectReason(bench.Finish(waits).error, absl::StatusCode::kFailedPrecondition,
               Reason::kMissingBlob);

  // The blob is named as well when it stops in the middle of its bytes.
  const std::string begins =
      bench.Submit(JobBench::Quantize(JobBench::Manifest(absent), tokens_)).name;
  const std::string& weights = absent.at("model.safetensors");
  ASSERT_TRUE(bench.Send(DigestOf(weights), weights, weights.size() / 2).ok());
  const JobSnapshot failed = bench.Finish(begins);
  EXPECT_EQ(failed.state, JobState::kFailed);
  ExpectReason(failed.error, absl::StatusCode::kFailedPrecondition, Reason::kMissingBlob,
               "model.safetensors");
  EXPECT_LT(failed.usage.seconds, 60);
  EXPECT_TRUE(bench.WorkDirectoryIsEmpty());
}

TEST_F(JobKeeperTest, AJobEndsAtItsTimeout) {
  JobBench bench;
  JobSpec spec = Spec();
  spec.timeout = absl::Milliseconds(200);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const std::string name = bench.Submit(spec).name;
  const std::string& weights = model_.at("model.safetensors");
  ASSERT_TRUE(bench.Send(DigestOf(weights), weights, weights.size() - 1).ok());
  const JobSnapshot job = bench.Finish(name);
  EXPECT_EQ(job.state, JobState::kFailed);
  ExpectReason(job.error, absl::StatusCode::kDeadlineExceeded, Reason::kDeadlineExceeded);
}

TEST_F(JobKeeperTest, HigherPriorityRunsFirst) {
  JobBench bench;
  ASSERT_TRUE(bench.Send(tokens_).ok());
  TinyModel other = Small();
  other.seed = 9;
  const Files first_model = MakeModel(other);
  const std::string first =
      bench.Submit(JobBench::Quantize(JobBench::Manifest(first_model), tokens_)).name;
  const std::string& weights = first_model.at("model.safetensors");
  ASSERT_TRUE(bench.Send(DigestOf(weights), weights, weights.size() - 1).ok());
  bench.WatchUntil(first, [](const JobEvent& event) {
    const auto* state = std::get_if<JobState>(&event.what);
    return state != nullptr && *state == JobState::kRunning;
  });
  const std::string low = bench.Submit(Spec(), "low").name;
  JobSpec urgent = Spec();
  urgent.priority = 9;
  const std::string high = bench.Submit(urgent, "high").name;
  bench.SendAll(model_);
  EXPECT_EQ(Must(bench.table().Get(high)).state, JobState::kQueued);
  bench.SendAll(first_model);
  const JobSnapshot low_done = bench.Finish(low);
  const JobSnapshot high_done = bench.Finish(high);
  EXPECT_LT(high_done.start_time, low_done.start_time);
}

// Else small jobs that keep coming could hold up a large one for ever.
TEST_F(JobKeeperTest, WhoWaitsForMemoryIsNotPassedBy) {
  TinyModel wide = Small();
  wide.hidden = 1024;
  wide.intermediate = 2048;
  const Files large_model = MakeModel(wide);
  const JobSpec large = JobBench::Quantize(ModelSource{{}, "large"}, tokens_);
  JobBench measured;
  measured.WriteModel("large", large_model);
  const auto memory = [&](const JobSpec& spec) {
    return Must(measured.table().Submit(spec, "", "", true)).estimate.peak_memory_bytes;
  };
  const int64_t small_bytes = memory(Spec());
  const int64_t large_bytes = memory(large);
  // Room for the large one alone, or for two small ones; the process may grow meanwhile.
  JobBench bench(2, [&](JobTableSettings& settings) {
    settings.max_running_jobs = 2;
    settings.memory_bytes = large_bytes + small_bytes / 2;
  });
  bench.WriteModel("large", large_model);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const std::string runs = bench.Submit(Spec(), "runs").name;
  const std::string& weights = model_.at("model.safetensors");
  ASSERT_TRUE(bench.Send(DigestOf(weights), weights, weights.size() - 1).ok());
  bench.WatchUntil(
      runs, [](const JobEvent& event) { return std::holds_alternative<TensorReady>(event.what); });
  const std::string waits = bench.Submit(large, "waits").name;
  const std::string small = bench.Submit(Spec(), "small").name;
  // It needs no room, and is looked at after them.
  const JobSpec inspection = JobBench::Spec(JobBench::Manifest(model_, true), InspectTask());
  EXPECT_EQ(bench.Finish(bench.Submit(inspection, "inspects").name).state, JobState::kSucceeded);
  EXPECT_EQ(Must(bench.table().Get(runs)).state, JobState::kRunning);
  EXPECT_EQ(Must(bench.table().Get(waits)).state, JobState::kQueued);
  EXPECT_EQ(Must(bench.table().Get(small)).state, JobState::kQueued);
  ASSERT_TRUE(bench.table().Cancel(waits).ok());
  bench.SendAll(model_);
  EXPECT_EQ(bench.Finish(small).state, JobState::kSucceeded);
}

// Room that a job was promised may be gone when it needs it.
TEST_F(JobKeeperTest, AStoreThatFillsUpFailsTheJobWithItsReason) {
  BlobStoreLimits limits;
  limits.capacity_bytes = 200'000;
  JobBench bench(1, {}, limits);
  const std::string name = bench.Submit(Spec()).name;  // It begins when its tokens are here.
  bench.SendAll(model_);
  Digest filler = DigestOf("filler");  // It is announced, and so reserved.
  filler.size_bytes = limits.capacity_bytes - bench.store().Usage().used_bytes -
                      static_cast<int64_t>(tokens_.size()) - 100;
  ASSERT_TRUE(bench.store().BeginUpload(filler).ok());
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const JobSnapshot job = bench.Finish(name);
  ASSERT_EQ(job.state, JobState::kFailed);
  ExpectReason(job.error, absl::StatusCode::kResourceExhausted, Reason::kSpoolFull);
  EXPECT_EQ(bench.store().Usage().blobs, 4);
}

TEST_F(JobKeeperTest, DrainingEndsWhatRunsAndRefusesMore) {
  JobBench bench;
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const std::string runs = bench.Submit(Spec()).name;
  const std::string& weights = model_.at("model.safetensors");
  ASSERT_TRUE(bench.Send(DigestOf(weights), weights, weights.size() - 1).ok());
  bench.WatchUntil(
      runs, [](const JobEvent& event) { return std::holds_alternative<TensorReady>(event.what); });
  const std::string waits = bench.Submit(Spec()).name;
  bench.table().Drain();
  ExpectReason(bench.table().Submit(Spec(), "", "", false).status(), absl::StatusCode::kUnavailable,
               Reason::kDraining);
  EXPECT_FALSE(bench.table().WaitUntilIdle(absl::Milliseconds(10)));
  bench.table().EndAll();
  EXPECT_TRUE(bench.table().WaitUntilIdle(absl::InfiniteDuration()));
  for (const std::string& name : {runs, waits}) {
    const JobSnapshot job = bench.Finish(name);
    EXPECT_EQ(job.state, JobState::kFailed);
    ExpectReason(job.error, absl::StatusCode::kUnavailable, Reason::kDraining);
  }
  EXPECT_EQ(bench.store().Usage().blobs, 1);
}

TEST_F(JobKeeperTest, ClosingTheTableCancelsWhatRunsAndLeavesNothing) {
  JobBench bench;
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const std::string name = bench.Submit(Spec()).name;
  const std::string& weights = model_.at("model.safetensors");
  ASSERT_TRUE(bench.Send(DigestOf(weights), weights, weights.size() - 1).ok());
  bench.WatchUntil(
      name, [](const JobEvent& event) { return std::holds_alternative<TensorReady>(event.what); });
  bench.Close();
  EXPECT_EQ(bench.store().Usage().blobs, 1);
  EXPECT_TRUE(bench.WorkDirectoryIsEmpty());
}

}  // namespace
}  // namespace salient
