#include "server/jobs/job_table.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "server/error/call_error.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_table_fixture.h"

namespace salient {
namespace {

using testing::DigestsOf;
using testing::ExpectReason;
using testing::JobBench;
using testing::kInvalid;
using testing::Must;

using JobTableTest = testing::JobTableFixture;

TEST_F(JobTableTest, AnAcceptedJobSaysWhatIsMissingAndWhatItWillCost) {
  JobBench bench;
  const JobSnapshot job = bench.Submit(Spec(), "first");
  EXPECT_EQ(job.name, "jobs/first");
  EXPECT_EQ(job.state, JobState::kQueued);
  EXPECT_EQ(job.serialized_spec, Spec().serialized);
  // They are config, weights, tokenizer and tokens, and not the .bin.
  EXPECT_EQ(job.missing.size(), 4u);
  EXPECT_TRUE(job.provisional);
  EXPECT_GT(job.estimate.seconds, 0);
  EXPECT_GT(job.estimate.flop, 0);
  EXPECT_GT(job.estimate.peak_memory_bytes, 0);
  EXPECT_FALSE(job.numerics_id.empty());
  SendAll(bench);
  const JobSnapshot done = bench.Finish(job.name);
  ASSERT_EQ(done.state, JobState::kSucceeded) << done.error;
  EXPECT_LE(done.create_time, done.start_time);
  EXPECT_LE(done.start_time, done.end_time);
  int64_t bytes = 0;
  for (const ResultFile& file : done.files) {
    if (file.name != "tokenizer_config.json") bytes += file.digest.size_bytes;
  }
  EXPECT_EQ(done.estimate.output_bytes, bytes);
  EXPECT_EQ(bench.table().GetStats().succeeded_total, 1);
}

TEST_F(JobTableTest, IdsAreLabels) {
  JobBench bench;
  for (const char* id : {"A", "-a", "a-", "a_b", "1a", "../x"}) {
    ExpectReason(bench.table().Submit(Spec(), id, "", false).status(), kInvalid, Reason::kBadJob,
                 "job_id");
  }
  ExpectReason(bench.table().Submit(Spec(), std::string(64, 'a'), "", false).status(), kInvalid,
               Reason::kBadJob);
  EXPECT_TRUE(bench.table().Submit(Spec(), std::string(63, 'a'), "", false).ok());
  for (const char* name : {"", "jobs/", "jobs/b", "b"}) {
    ExpectReason(bench.table().Get(name).status(), absl::StatusCode::kNotFound,
                 Reason::kUnknownJob);
  }
}

TEST_F(JobTableTest, ListsNewestFirstInPages) {
  JobBench bench;
  std::vector<std::string> expected;
  for (int i = 0; i < 7; ++i) {
    expected.insert(expected.begin(), bench.Submit(Spec(), absl::StrCat("job", i)).name);
  }
  ASSERT_TRUE(bench.table().Cancel("jobs/job3").ok());
  std::vector<std::string> names;
  std::string token;
  do {
    const JobTable::Page page = Must(bench.table().List(3, token, {}));
    EXPECT_LE(page.jobs.size(), 3u);
    for (const JobSnapshot& job : page.jobs) names.push_back(job.name);
    token = page.next_page_token;
  } while (!token.empty());
  EXPECT_EQ(names, expected);
  const JobTable::Page cancelled = Must(bench.table().List(0, "", {JobState::kCancelled}));
  ASSERT_EQ(cancelled.jobs.size(), 1u);
  EXPECT_EQ(cancelled.jobs[0].name, "jobs/job3");
  EXPECT_TRUE(cancelled.next_page_token.empty());
  for (const char* bad : {"x", "0", "00000000000000000000000000000000"}) {
    ExpectReason(bench.table().List(3, bad, {}).status(), kInvalid, Reason::kBadJob, "page_token");
  }
  ExpectReason(bench.table().List(-1, "", {}).status(), kInvalid, Reason::kBadJob, "page_size");
}

// Whoever lists jobs copies and reads their specs, which may be megabytes each.
TEST_F(JobTableTest, APageEndsBeforeTheSpecsAreTooLong) {
  JobBench bench;
  for (int i = 0; i < 5; ++i) {
    JobSpec spec = Spec();
    spec.serialized = std::string(i == 0 ? size_t{20} << 20 : size_t{6} << 20, 'x');
    bench.Submit(std::move(spec), absl::StrCat("job", i));
  }
  std::vector<size_t> sizes;
  std::string token;
  do {
    const JobTable::Page page = Must(bench.table().List(0, token, {}));
    sizes.push_back(page.jobs.size());
    token = page.next_page_token;
  } while (!token.empty() && sizes.size() < 9);
  EXPECT_EQ(sizes, (std::vector<size_t>{2, 2, 1})) << "each at most 16 MiB, or one job";
}

TEST_F(JobTableTest, TwoJobsAtOnceShareEqualResultsAndTheLastOneTakesThemAlong) {
  JobBench bench(2, [](JobTableSettings& settings) { settings.max_running_jobs = 2; });
  SendAll(bench);
  const int64_t uploaded = bench.store().Usage().blobs;
  const std::string first = bench.Submit(Spec()).name;
  const std::string second = bench.Submit(Spec()).name;
  const JobSnapshot a = bench.Finish(first);
  const JobSnapshot b = bench.Finish(second);
  ASSERT_EQ(a.state, JobState::kSucceeded) << a.error;
  ASSERT_EQ(b.state, JobState::kSucceeded) << b.error;
  EXPECT_EQ(DigestsOf(a), DigestsOf(b));
  const auto parts_here = [&bench](const JobSnapshot& job) {
    for (const ResultFile& file : job.files) {
      if (!bench.store().FindMissing(file.parts).empty()) return false;
    }
    return true;
  };
  ASSERT_TRUE(bench.table().Delete(first).ok());
  EXPECT_TRUE(absl::IsNotFound(bench.table().Get(first).status()));
  EXPECT_TRUE(parts_here(b));
  ASSERT_TRUE(bench.table().Delete(second).ok());
  // The keeper deletes; what was uploaded stays.
  while (bench.store().Usage().blobs != uploaded) std::this_thread::yield();
  EXPECT_FALSE(parts_here(b));
  EXPECT_TRUE(bench.store().FindMissing({DigestOf(tokens_)}).empty());
}

TEST_F(JobTableTest, AResultThatAClientUploadedStaysWhenTheJobIsDeleted) {
  JobBench bench;
  SendAll(bench);
  const JobSnapshot first = bench.Finish(bench.Submit(Spec()).name);
  ASSERT_EQ(first.state, JobState::kSucceeded) << first.error;
  const std::string config = bench.Read(DigestsOf(first)["config.json"]);
  const int64_t uploaded = 4;
  ASSERT_TRUE(bench.table().Delete(first.name).ok());
  while (bench.store().Usage().blobs != uploaded) std::this_thread::yield();
  ASSERT_TRUE(bench.Send(config).ok());
  const JobSnapshot second = bench.Finish(bench.Submit(Spec()).name);
  ASSERT_TRUE(bench.table().Delete(second.name).ok());
  while (bench.store().Usage().blobs != uploaded + 1) std::this_thread::yield();
  EXPECT_TRUE(bench.store().Status(DigestOf(config)).complete);
}

TEST_F(JobTableTest, AJobAndItsResultsGoWhenTheirTimeIsOver) {
  JobBench bench;
  SendAll(bench);
  const int64_t uploaded = bench.store().Usage().blobs;
  JobSpec spec = Spec();
  spec.ttl_after_finished = absl::Milliseconds(50);
  const std::string name = bench.Submit(spec).name;
  // A watch outlives the job.
  const std::vector<JobEvent> events = bench.WatchToEnd(name);
  EXPECT_EQ(std::get<JobState>(events.back().what), JobState::kSucceeded);
  while (bench.table().Get(name).ok()) std::this_thread::yield();
  while (bench.store().Usage().blobs != uploaded) std::this_thread::yield();
}

// Else a client that has its jobs refused, cancelled or inspected all day takes all memory.
TEST_F(JobTableTest, OfJobsWithoutAResultTheOldestGoEarlier) {
  JobBench bench(1, [](JobTableSettings& settings) { settings.ended_spec_bytes = 3500; });
  SendAll(bench);
  const auto submit = [&](JobSpec spec, const std::string& id) {
    spec.serialized = std::string(1000, 'x');
    return bench.Submit(spec, id).name;
  };
  const std::string made = submit(Spec(), "made");
  ASSERT_EQ(bench.Finish(made).state, JobState::kSucceeded);
  const JobSpec inspection = JobBench::Spec(JobBench::Manifest(model_, true), InspectTask());
  const std::string inspected = submit(inspection, "inspected");
  ASSERT_EQ(bench.Finish(inspected).state, JobState::kSucceeded);
  std::vector<std::string> cancelled;
  for (const char* id : {"a", "b", "c", "d"}) {
    JobSpec spec = Spec();
    std::get<QuantizeTask>(spec.task).calibration.tokens = DigestOf("never sent");
    cancelled.push_back(submit(spec, id));
    ASSERT_TRUE(bench.table().Cancel(cancelled.back()).ok());
  }
  while (bench.table().Get(cancelled[0]).ok()) std::this_thread::yield();
  EXPECT_TRUE(absl::IsNotFound(bench.table().Get(inspected).status()));
  for (const std::string& name : {made, cancelled[1], cancelled[2], cancelled[3]}) {
    EXPECT_TRUE(bench.table().Get(name).ok()) << name;
  }
}

TEST_F(JobTableTest, AJobThatHasNotEndedIsNotDeleted) {
  JobBench bench;
  const std::string name = bench.Submit(Spec()).name;
  ExpectReason(bench.table().Delete(name), absl::StatusCode::kFailedPrecondition,
               Reason::kJobNotEnded);
  ASSERT_TRUE(bench.table().Cancel(name).ok());
  EXPECT_EQ(Must(bench.table().Get(name)).state, JobState::kCancelled);
  EXPECT_TRUE(bench.table().Delete(name).ok());
}

}  // namespace
}  // namespace salient
