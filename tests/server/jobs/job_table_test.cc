#include "server/jobs/job_table.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "server/workers/call_error.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using testing::DigestsOf;
using testing::Files;
using testing::JobBench;
using testing::MakeModel;
using testing::MakeTokens;
using testing::Must;
using testing::TinyModel;

class JobTableTest : public ::testing::Test {
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
  // Why the spec is refused; the table stays as it was.
  static absl::Status Refusal(JobBench& bench, JobSpec spec) {
    const absl::Status status = bench.table().Submit(std::move(spec), "", "", false).status();
    EXPECT_TRUE(Must(bench.table().List(0, "", {})).jobs.empty());
    return status;
  }

  const Files model_ = MakeModel(Small());
  const std::string tokens_ = MakeTokens(2, 16, 40, 3);
};

void ExpectReason(const absl::Status& status, absl::StatusCode code, Reason reason,
                  absl::string_view part = "") {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_EQ(Name(DetailsOf(status).reason), Name(reason)) << status;
  EXPECT_NE(status.message().find(part), absl::string_view::npos) << status;
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST_F(JobTableTest, AnAcceptedJobSaysWhatIsMissingAndWhatItWillCost) {
  JobBench bench;
  const JobSnapshot job = bench.Submit(Spec(), "first");
  EXPECT_EQ(job.name, "jobs/first");
  EXPECT_EQ(job.state, JobState::kQueued);
  EXPECT_EQ(job.serialized_spec, Spec().serialized);
  EXPECT_EQ(job.missing.size(), 4u);  // config, weights, tokenizer, tokens: not the .bin
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

TEST_F(JobTableTest, ValidatingOnlyLeavesNoTrace) {
  JobBench bench;
  const JobSnapshot job = Must(bench.table().Submit(Spec(), "a", "r", true));
  EXPECT_EQ(job.missing.size(), 4u);
  EXPECT_GT(job.estimate.seconds, 0);
  EXPECT_TRUE(absl::IsNotFound(bench.table().Get("jobs/a").status()));
  EXPECT_TRUE(Must(bench.table().List(0, "", {})).jobs.empty());
}

TEST_F(JobTableTest, TheSameIdIsTheSameJobAndAnotherSpecIsRefused) {
  JobBench bench;
  const JobSnapshot job = Must(bench.table().Submit(Spec(), "a", "request", false));
  EXPECT_EQ(Must(bench.table().Submit(Spec(), "a", "request", false)).name, job.name);
  EXPECT_EQ(Must(bench.table().Submit(Spec(), "a", "", false)).name, job.name);
  EXPECT_EQ(Must(bench.table().Submit(Spec(), "", "request", false)).name, job.name);
  EXPECT_EQ(Must(bench.table().List(0, "", {})).jobs.size(), 1u);
  JobSpec other = Spec();
  other.serialized += "x";
  for (const auto& [id, request] : {std::pair("a", ""), std::pair("", "request")}) {
    ExpectReason(bench.table().Submit(other, id, request, false).status(),
                 absl::StatusCode::kAlreadyExists, Reason::kJobExists, "jobs/a");
  }
  EXPECT_NE(bench.Submit(other).name, bench.Submit(other).name);
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

TEST_F(JobTableTest, AJobThatHasNotEndedIsNotDeleted) {
  JobBench bench;
  const std::string name = bench.Submit(Spec()).name;
  ExpectReason(bench.table().Delete(name), absl::StatusCode::kFailedPrecondition,
               Reason::kJobNotEnded);
  ASSERT_TRUE(bench.table().Cancel(name).ok());
  EXPECT_EQ(Must(bench.table().Get(name)).state, JobState::kCancelled);
  EXPECT_TRUE(bench.table().Delete(name).ok());
}

TEST_F(JobTableTest, AJobThatWaitsForBytesDoesNotHoldUpOthersAndIsGivenUp) {
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

  // The same in the middle of its bytes: the blob is named.
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

TEST_F(JobTableTest, AJobEndsAtItsTimeout) {
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

TEST_F(JobTableTest, HigherPriorityRunsFirst) {
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

TEST_F(JobTableTest, AFullQueueAndTooMuchMemoryAreRefusedWithWhatToDo) {
  JobBench bench(1, [](JobTableSettings& settings) { settings.max_queued_jobs = 2; });
  bench.Submit(Spec());
  bench.Submit(Spec());
  const absl::Status full = bench.table().Submit(Spec(), "", "", false).status();
  ExpectReason(full, absl::StatusCode::kResourceExhausted, Reason::kQueueFull);
  EXPECT_TRUE(DetailsOf(full).retry_after.has_value());

  JobBench poor(1, [](JobTableSettings& settings) { settings.memory_bytes = 1 << 20; });
  const absl::Status memory = Refusal(poor, Spec());
  ExpectReason(memory, absl::StatusCode::kResourceExhausted, Reason::kMemory);
  EXPECT_EQ(DetailsOf(memory).quota, "memory_bytes");

  BlobStoreLimits limits;
  limits.capacity_bytes = static_cast<int64_t>(model_.at("model.safetensors").size());
  JobBench small(1, {}, limits);
  const absl::Status spool = Refusal(small, Spec());
  ExpectReason(spool, absl::StatusCode::kResourceExhausted, Reason::kSpoolFull);
  EXPECT_EQ(DetailsOf(spool).quota, "store_bytes");
}

// Room that a job was promised may be gone when it needs it.
TEST_F(JobTableTest, AStoreThatFillsUpFailsTheJobWithItsReason) {
  BlobStoreLimits limits;
  limits.capacity_bytes = 200'000;
  JobBench bench(1, {}, limits);
  const std::string name = bench.Submit(Spec()).name;  // begins when its tokens are here
  bench.SendAll(model_);
  Digest filler = DigestOf("filler");  // announced, and so reserved
  filler.size_bytes = limits.capacity_bytes - bench.store().Usage().used_bytes -
                      static_cast<int64_t>(tokens_.size()) - 100;
  ASSERT_TRUE(bench.store().BeginUpload(filler).ok());
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const JobSnapshot job = bench.Finish(name);
  ASSERT_EQ(job.state, JobState::kFailed);
  ExpectReason(job.error, absl::StatusCode::kResourceExhausted, Reason::kSpoolFull);
  EXPECT_EQ(bench.store().Usage().blobs, 4);
}

TEST_F(JobTableTest, DrainingEndsWhatRunsAndRefusesMore) {
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

TEST_F(JobTableTest, ClosingTheTableCancelsWhatRunsAndLeavesNothing) {
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

// What can be known before any work is said before any work.
TEST_F(JobTableTest, BadModelsAreRefusedWhenTheyAreSubmitted) {
  JobBench bench;
  const auto with = [this](const std::function<void(ModelSource&)>& change) {
    ModelSource source = JobBench::Manifest(model_, true);
    change(source);
    return JobBench::Quantize(source, tokens_);
  };
  const auto file = [](ModelSource& source, const std::string& name) -> ModelFile& {
    for (ModelFile& candidate : source.files) {
      if (candidate.name == name) return candidate;
    }
    throw std::runtime_error(name);
  };
  for (const std::string& bad :
       std::vector<std::string>{"../x", "a/b", "", "..", std::string(256, 'a')}) {
    ExpectReason(Refusal(bench, with([&](ModelSource& s) { s.files[1].name = bad; })), kInvalid,
                 Reason::kBadModel, "file name");
  }
  ExpectReason(Refusal(bench, with([](ModelSource& s) { s.files.push_back(s.files[0]); })),
               kInvalid, Reason::kBadModel, "twice");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { file(s, "config.json").name = "c.json"; })),
      kInvalid, Reason::kBadModel, "config.json");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { file(s, "model.safetensors").name = "m.bin"; })),
      kInvalid, Reason::kBadModel, "model.safetensors");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { file(s, "config.json").inline_content.reset(); })),
      absl::StatusCode::kFailedPrecondition, Reason::kMissingBlob, "config.json");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { *file(s, "config.json").inline_content += " "; })),
      kInvalid, Reason::kDigestMismatch, "config.json");
  ExpectReason(Refusal(bench, with([&](ModelSource& s) {
                         file(s, "model.safetensors").inline_content->resize(50);
                       })),
               kInvalid, Reason::kBadModel, "model.safetensors");
  ExpectReason(Refusal(bench, with([&](ModelSource& s) {
                         file(s, "model.safetensors").digest.size_bytes += 1;
                       })),
               kInvalid, Reason::kBadModel, "model.safetensors");
  const auto config = [&](const std::string& from, const std::string& to) {
    return with([&](ModelSource& s) {
      ModelFile& json = file(s, "config.json");
      std::string& text = *json.inline_content;
      text.replace(text.find(from), from.size(), to);
      json.digest = DigestOf(text);
    });
  };
  ExpectReason(Refusal(bench, config("\"vocab_size\": 40", "\"vocab_size\": 41")), kInvalid,
               Reason::kBadModel, "model.embed_tokens.weight");
  ExpectReason(Refusal(bench, config("\"vocab_size\": 40", "\"v\": 40")), kInvalid,
               Reason::kBadModel, "vocab_size");
  ExpectReason(Refusal(bench, config("LlamaForCausalLM", "UnheardOf")),
               absl::StatusCode::kUnimplemented, Reason::kUnsupported, "UnheardOf");
  JobSpec odd = Spec();
  std::get<QuantizeTask>(odd.task).formats[0].format.group_size = 31;
  ExpectReason(Refusal(bench, odd), kInvalid, Reason::kBadModel, "31");
}

TEST_F(JobTableTest, BadTokensAreRefusedOnceTheyAreHere) {
  JobBench bench;
  const std::string beyond = MakeTokens(2, 16, 60, 3);
  ASSERT_TRUE(bench.Send(beyond).ok());
  ExpectReason(Refusal(bench, JobBench::Quantize(JobBench::Manifest(model_), beyond)), kInvalid,
               Reason::kBadTokens, "expected less than 40");
  const std::string noise = "not a safetensors file";
  ASSERT_TRUE(bench.Send(noise).ok());
  ExpectReason(Refusal(bench, JobBench::Quantize(JobBench::Manifest(model_), noise)), kInvalid,
               Reason::kBadTokens);
  // Not here yet: accepted, and the job fails when they came.
  const std::string later = MakeTokens(3, 16, 60, 3);
  const std::string name = bench.Submit(JobBench::Quantize(JobBench::Manifest(model_), later)).name;
  bench.SendAll(model_);
  ASSERT_TRUE(bench.Send(later).ok());
  ExpectReason(bench.Finish(name).error, kInvalid, Reason::kBadTokens, "expected less than 40");
}

TEST_F(JobTableTest, PathsStayBelowTheirRoots) {
  JobBench bench;
  bench.WriteModel("m", model_);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  namespace fs = std::filesystem;
  const fs::path models = bench.directory() / "models";
  const fs::path outside = bench.directory() / "outside";
  for (const auto& [name, content] : model_) testing::WriteFile(outside / name, content);
  fs::create_directory_symlink(outside, models / "link");
  fs::create_directory_symlink(models / "m", models / "inside");
  bench.WriteModel("linked", model_);
  fs::remove(models / "linked" / "tokenizer_config.json");
  fs::create_symlink(outside / "tokenizer_config.json",
                     models / "linked" / "tokenizer_config.json");
  const auto path = [this](const std::string& from, const std::string& to = "") {
    JobSpec spec = JobBench::Quantize(ModelSource{{}, from}, tokens_);
    std::get<QuantizeTask>(spec.task).output_path = to;
    return spec;
  };
  for (const std::string& bad :
       std::vector<std::string>{"../outside", "m/../../outside", "link", "absent", "m/config.json",
                                "linked", "/etc", outside.c_str()}) {
    ExpectReason(Refusal(bench, path(bad)), kInvalid, Reason::kBadPath);
  }
  for (const std::string& bad :
       std::vector<std::string>{"../x", "absent/x", ".", "..", "/", "/tmp/x", "a/../../x"}) {
    ExpectReason(Refusal(bench, path("m", bad)), kInvalid, Reason::kBadPath);
  }
  testing::WriteFile(bench.directory() / "outputs" / "full" / "file", "x");
  ExpectReason(Refusal(bench, path("m", "full")), kInvalid, Reason::kBadPath, "not empty");
  const std::string absolute = (models / "m").string();
  for (const std::string& good : std::vector<std::string>{"m", "m/", absolute, "inside"}) {
    EXPECT_TRUE(bench.table().Submit(path(good), "", "", true).ok()) << good;
  }
  JobBench rootless(1, [](JobTableSettings& settings) {
    settings.model_root.clear();
    settings.output_root.clear();
  });
  ExpectReason(Refusal(rootless, path("m")), kInvalid, Reason::kBadPath, "--model-root");
}

}  // namespace
}  // namespace salient
