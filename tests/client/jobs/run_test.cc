#include "client/jobs/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>

#include "client/jobs/calls.h"
#include "client/terminal/errors.h"
#include "client/terminal/status_line.h"
#include "client/transfer/file_digest.h"
#include "tests/client/fake_job_server.h"
#include "tests/client/file_contents.h"
#include "tests/client/tensor_files.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

v1::JobEvent GroupEvent(const std::string& name) {
  v1::JobEvent event;
  event.mutable_group_report()->set_name(name);
  return event;
}

v1::JobEvent FileEvent(const v1::ResultFile& file) {
  v1::JobEvent event;
  *event.mutable_file_ready() = file;
  return event;
}

class JobRunTest : public ::testing::Test {
 protected:
  // Tokens first; a.safetensors and b.safetensors while it runs.
  JobPlan Plan() const {
    JobPlan plan;
    plan.request.mutable_spec()->mutable_quantize();
    plan.first = {InMemory("tokens")};
    plan.rest = {InMemory("a"), InMemory("b")};
    plan.download_to = output_;
    plan.after_interrupt = "Run it again";
    return plan;
  }

  // Makes a result file of two parts that the server holds.
  v1::ResultFile File(const std::string& name, const std::string& head, const std::string& tail) {
    v1::ResultFile file;
    file.set_name(name);
    *file.mutable_digest() = DigestOfBytes(head + tail);
    *file.add_parts() = server_.Hold(head);
    *file.add_parts() = server_.Hold(tail);
    return file;
  }

  static v1::Job Ended(v1::JobState state) {
    v1::Job job;
    job.set_state(state);
    return job;
  }

  absl::StatusOr<FinishedJob> Run(JobPlan plan) {
    JobDisplay display(log_.get(), ProgressStyle::kLines);
    return RunJob(server_.Connect(), std::move(plan), display, interrupt_);
  }

  // Returns what the display printed.
  std::string Log() const {
    std::rewind(log_.get());
    std::string text(4096, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), log_.get()));
    return text;
  }

  void ExpectNothingLeft() const { EXPECT_THAT(directory_.List(), IsEmpty()); }

  Interrupt interrupt_;  // First: it must be made before any thread.
  TemporaryDirectory directory_;
  const std::string output_ = directory_.File("out");
  FakeJobServer server_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> log_{std::tmpfile(), &std::fclose};
};

TEST_F(JobRunTest, UploadsWatchesAndDownloads) {
  const v1::ResultFile first = File("model.safetensors", "head", "tensor");
  const v1::ResultFile second = File("config.json", "{", "}");
  FakeJobServer::Script script;
  script.events = {GroupEvent("g0"), FileEvent(first), GroupEvent("g1")};
  script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
  *script.ended.add_files() = first;
  *script.ended.add_files() = second;  // No event ever announces it.
  // The job runs while bytes arrive: it ends once the last is there.
  script.before_event = [&](int index) {
    EXPECT_TRUE(server_.Has(DigestOfBytes("tokens")));
    if (index == 3) {
      EXPECT_TRUE(server_.WaitFor(DigestOfBytes("b")));
    }
  };
  server_.Play(script);
  const auto outcome = Run(Plan());
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(ReadFile(output_ + "/model.safetensors"), "headtensor");
  EXPECT_EQ(ReadFile(output_ + "/config.json"), "{}");
  EXPECT_THAT(directory_.List(), ElementsAre("out"));
  ASSERT_EQ(outcome->groups.size(), 2u);
  EXPECT_EQ(outcome->groups[1].name(), "g1");
  EXPECT_THAT(server_.Uploaded(),
              ElementsAre(DigestOfBytes("tokens").sha256(), DigestOfBytes("a").sha256(),
                          DigestOfBytes("b").sha256()));
  EXPECT_EQ(outcome->job.name(), "jobs/" + server_.Request().job_id());
  EXPECT_FALSE(server_.Cancelled());
}

TEST_F(JobRunTest, ResultsInDirectoriesOfTheirOwnAreDownloadedThere) {
  FakeJobServer::Script script;
  script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
  *script.ended.add_files() = File("awq-gemm/config.json", "{", "}");
  *script.ended.add_files() = File("gptq/config.json", "[", "]");
  *script.ended.add_files() = File("awq-gemm/model.safetensors", "head", "tensor");
  server_.Play(script);
  const auto outcome = Run(Plan());
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(ReadFile(output_ + "/awq-gemm/config.json"), "{}");
  EXPECT_EQ(ReadFile(output_ + "/awq-gemm/model.safetensors"), "headtensor");
  EXPECT_EQ(ReadFile(output_ + "/gptq/config.json"), "[]");
  EXPECT_THAT(directory_.List(), ElementsAre("out"));
}

TEST_F(JobRunTest, FileIsDownloadedWhileTheJobRuns) {
  const v1::ResultFile file = File("model.safetensors", "head", "tensor");
  FakeJobServer::Script script;
  script.events = {FileEvent(file), GroupEvent("later")};
  script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
  script.before_event = [&](int index) {
    if (index != 1) return;
    ASSERT_THAT(directory_.List(), ElementsAre(StartsWith("out.incomplete-")));
    const std::string growing = directory_.File(directory_.List()[0]) + "/model.safetensors";
    for (int i = 0; i < 12000 && ReadFile(growing) != "headtensor"; ++i) usleep(5000);
    EXPECT_EQ(ReadFile(growing), "headtensor");
    EXPECT_EQ(access(output_.c_str(), F_OK), -1) << "appears when it is whole";
  };
  server_.Play(script);
  EXPECT_TRUE(Run(Plan()).ok());
  EXPECT_THAT(directory_.List(), ElementsAre("out"));
}

TEST_F(JobRunTest, BrokenWatchMissesNothingAndRepeatsNothing) {
  FakeJobServer::Script script;
  for (int i = 0; i < 10; ++i) script.events.push_back(GroupEvent(std::to_string(i)));
  script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
  server_.Play(script);
  server_.BreakWatchAfter({1, 4, 10});
  const auto outcome = Run(Plan());
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->groups.size(), 10u);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(outcome->groups[static_cast<size_t>(i)].name(), std::to_string(i));
  }
  EXPECT_EQ(server_.Watches(), 4);
  std::rewind(log_.get());
  char line[256] = "";
  EXPECT_NE(std::fgets(line, sizeof(line), log_.get()), nullptr);
  EXPECT_THAT(line, HasSubstr("; trying again\n"));
}

TEST_F(JobRunTest, JobThatTheServerLostIsWorthAnotherTry) {
  FakeJobServer::Script script;
  script.events = {GroupEvent("g")};
  script.before_event = [&](int) { server_.ForgetJob(); };
  server_.Play(script);
  server_.BreakWatchAfter({1});
  const auto outcome = Run(Plan());
  EXPECT_EQ(ExitCodeOf(outcome.status()), kExitTryAgain);
  EXPECT_THAT(outcome.status().message(), HasSubstr("lost jobs/"));
  ExpectNothingLeft();
}

TEST_F(JobRunTest, FailedJobIsItsErrorAndLeavesNothing) {
  FakeJobServer::Script script;
  script.events = {FileEvent(File("model.safetensors", "head", "tensor"))};
  script.ended = Ended(v1::JOB_STATE_FAILED);
  script.ended.mutable_error()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
  script.ended.mutable_error()->set_message("b.safetensors: tensor \"x\" has a NaN");
  server_.Play(script);
  const auto outcome = Run(Plan());
  EXPECT_EQ(ExitCodeOf(outcome.status()), kExitBadInput);
  EXPECT_EQ(outcome.status().message(), "b.safetensors: tensor \"x\" has a NaN");
  ExpectNothingLeft();
}

TEST_F(JobRunTest, JobThatSomebodyElseCancelledIsNotToBeRunAgain) {
  FakeJobServer::Script script;
  script.ended = Ended(v1::JOB_STATE_CANCELLED);
  server_.Play(script);
  EXPECT_EQ(ExitCodeOf(Run(Plan()).status()), kExitCancelled);
  ExpectNothingLeft();
}

TEST_F(JobRunTest, RefusedJobUploadsNoModel) {
  server_.RefuseNextJob({grpc::StatusCode::UNIMPLEMENTED, "no such architecture"});
  const auto outcome = Run(Plan());
  EXPECT_EQ(outcome.status().message(), "no such architecture");
  EXPECT_EQ(ExitCodeOf(outcome.status()), kExitBadInput);
  EXPECT_THAT(server_.Uploaded(), ElementsAre(DigestOfBytes("tokens").sha256()));
  EXPECT_EQ(server_.Watches(), 0);
  ExpectNothingLeft();
}

TEST_F(JobRunTest, UploadThatFailsCancelsTheJob) {
  FakeJobServer::Script script;
  script.never_ends = true;
  server_.Play(script);
  JobPlan plan = Plan();
  plan.rest.push_back({DigestOfBytes("a file that went away"), directory_.File("gone"), {}});
  const auto outcome = Run(std::move(plan));
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(outcome.status().message(), HasSubstr(directory_.File("gone")));
  EXPECT_TRUE(server_.Cancelled());
  ExpectNothingLeft();
}

TEST_F(JobRunTest, PartsThatAreNotTheFileAreNotBelieved) {
  v1::ResultFile file = File("model.safetensors", "head", "tensor");
  *file.mutable_digest() = DigestOfBytes("headtensors");
  FakeJobServer::Script script;
  script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
  *script.ended.add_files() = file;
  server_.Play(script);
  const auto outcome = Run(Plan());
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(outcome.status().message(), HasSubstr("salient jobs download jobs/"));
  ExpectNothingLeft();
}

TEST_F(JobRunTest, FileNameThatLeadsElsewhereIsNotBelieved) {
  for (const char* name : {"../evil", "/etc/evil", "..", "", ".hidden", "a/b/c/d", "a/../b",
                           "../a/b", "a/..", "a/", ".a/b", "a/.b", "bell\a"}) {
    FakeJobServer::Script script;
    script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
    *script.ended.add_files() = File(name, "x", "y");
    server_.Play(script);
    EXPECT_EQ(Run(Plan()).status().code(), absl::StatusCode::kInvalidArgument) << name;
    ExpectNothingLeft();
  }
}

TEST_F(JobRunTest, CtrlCCancelsTheJobAndSaysHowToResume) {
  FakeJobServer::Script script;
  script.events = {FileEvent(File("model.safetensors", "head", "tensor"))};
  script.never_ends = true;
  script.before_event = [](int index) {
    if (index == 1) kill(getpid(), SIGINT);
  };
  server_.Play(script);
  const auto outcome = Run(Plan());
  EXPECT_EQ(ExitCodeOf(outcome.status()), kExitInterrupted);
  EXPECT_THAT(outcome.status().message(), HasSubstr("was cancelled. Run it again"));
  EXPECT_TRUE(server_.Cancelled());
  ExpectNothingLeft();
}

TEST_F(JobRunTest, CtrlCThatComesTooLateSaysWhereTheResultIs) {
  FakeJobServer::Script script;
  script.never_ends = true;
  script.ends_before_that = true;
  script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
  script.before_event = [](int) { kill(getpid(), SIGINT); };
  server_.Play(script);
  const auto outcome = Run(Plan());
  EXPECT_EQ(ExitCodeOf(outcome.status()), kExitInterrupted);
  const std::string name = "jobs/" + server_.Request().job_id();
  EXPECT_EQ(outcome.status().message(),
            "interrupted; " + name + " had succeeded before; the result is still there: " +
                "salient jobs download " + name + " DIR --server " + server_.Connect().address);
  ExpectNothingLeft();
}

TEST_F(JobRunTest, CtrlCThatComesTooLateSaysWhatTheServerWrote) {
  FakeJobServer::Script script;
  script.never_ends = true;
  script.ends_before_that = true;
  script.ended = Ended(v1::JOB_STATE_SUCCEEDED);
  script.before_event = [](int) { kill(getpid(), SIGINT); };
  server_.Play(script);
  JobPlan plan = Plan();
  plan.download_to.clear();
  plan.request.mutable_spec()->mutable_quantize()->set_output_path("/models/out");
  const auto outcome = Run(std::move(plan));
  EXPECT_EQ(ExitCodeOf(outcome.status()), kExitInterrupted);
  EXPECT_EQ(outcome.status().message(), "interrupted; jobs/" + server_.Request().job_id() +
                                            " had succeeded before; its result is in /models/out");
}

TEST_F(JobRunTest, OutputThatIsNotEmptyIsRefusedBeforeAnythingIsSent) {
  ASSERT_EQ(mkdir(output_.c_str(), 0777), 0);
  std::ofstream(output_ + "/there") << "x";
  EXPECT_EQ(Run(Plan()).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(server_.Uploaded(), IsEmpty());
  EXPECT_EQ(ReadFile(output_ + "/there"), "x");
}

TEST_F(JobRunTest, EstimateUploadsTokensOnly) {
  JobDisplay display(log_.get(), ProgressStyle::kLines);
  const auto job = EstimateJob(server_.Connect(), Plan(), display, interrupt_);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->job.estimate().seconds(), 7);
  EXPECT_THAT(job->warnings, ElementsAre("mind the gap"));
  EXPECT_THAT(Log(), HasSubstr("warning: mind the gap"));
  EXPECT_TRUE(server_.Request().validate_only());
  EXPECT_THAT(server_.Uploaded(), ElementsAre(DigestOfBytes("tokens").sha256()));
  EXPECT_EQ(server_.Watches(), 0);
}

}  // namespace
}  // namespace salient::client
