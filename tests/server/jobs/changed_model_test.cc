// Checks models below the root that somebody changes, and what their errors tell of this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/root_path.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;
using testing::JobBench;
using ::testing::Not;
using ::testing::StartsWith;

class ChangedModelTest : public testing::JobTest {
 protected:
  ChangedModelTest() : path_(bench_.WriteModel("m", model_)) {
    EXPECT_TRUE(bench_.Send(tokens_).ok());
    // The files are an hour old, because the clock of the file system is coarse.
    for (const auto& entry : fs::directory_iterator(path_)) {
      fs::last_write_time(entry, fs::file_time_type::clock::now() - std::chrono::hours(1));
    }
  }
  JobSpec Spec(const std::string& output_path = "") {
    ModelSource source;
    source.path = "m";
    JobSpec spec = JobBench::Quantize(source, tokens_);
    std::get<QuantizeTask>(spec.task).output_path = output_path;
    return spec;
  }
  absl::Status ErrorOf(JobSpec spec) {
    const absl::StatusOr<JobSnapshot> job = bench_.table().Submit(std::move(spec), "", "", false);
    return job.ok() ? bench_.Finish(job->name).error : job.status();
  }

  const fs::path path_;
};

TEST_F(ChangedModelTest, FilesThatChangeWhileTheJobRunsFailIt) {
  const fs::path weights = path_ / "model.safetensors";
  struct Case {
    const char* message;
    std::function<void()> change;
  };
  const Case cases[] = {
      {"model.safetensors: was written to",
       [&] {
         std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
         file.seekp(static_cast<std::streamoff>(fs::file_size(weights) - 10));
         file << std::string(10, '\0');
       }},
      {"model.safetensors: has ",
       [&] { std::ofstream(weights, std::ios::app | std::ios::binary) << "more"; }},
      {"model.safetensors: was replaced",
       [&] {
         const fs::file_time_type time = fs::last_write_time(weights);
         fs::copy_file(weights, path_ / ".other");
         fs::last_write_time(path_ / ".other", time);
         fs::rename(path_ / ".other", weights);
       }},
      {"config.json: was written to",
       [&] { fs::last_write_time(path_ / "config.json", fs::file_time_type::clock::now()); }},
      {"tokenizer_config.json: is gone", [&] { fs::remove(path_ / "tokenizer_config.json"); }},
      {"added_tokens.json: was not there",
       [&] { std::ofstream(path_ / "added_tokens.json") << 1; }},
  };
  const int64_t blobs = bench_.store().Usage().blobs;
  for (const Case& changed : cases) {
    for (const char* output_path : {"", "out"}) {
      bool is_first = true;
      bench_.table().ObserveGroups([&](const TimedGroupReport&) {
        if (is_first) changed.change();
        is_first = false;
      });
      const absl::Status error = ErrorOf(Spec(output_path));
      bench_.table().ObserveGroups(nullptr);
      EXPECT_EQ(error.code(), absl::StatusCode::kFailedPrecondition) << error;
      EXPECT_EQ(DetailsOf(error).reason, Reason::kBadModel);
      EXPECT_THAT(std::string(error.message()), StartsWith(changed.message));
      EXPECT_TRUE(fs::is_empty(bench_.directory() / "outputs"));
      EXPECT_EQ(bench_.store().Usage().blobs, blobs);
      fs::remove_all(path_);
      bench_.WriteModel("m", model_);
      for (const auto& entry : fs::directory_iterator(path_)) {
        fs::last_write_time(entry, fs::file_time_type::clock::now() - std::chrono::hours(1));
      }
    }
  }
  EXPECT_EQ(ErrorOf(Spec()), absl::OkStatus());
}

TEST_F(ChangedModelTest, ErrorsNamePathsBelowTheRoot) {
  fs::create_symlink("vocab.json", path_ / "vocab.json");
  const absl::Status loop = ErrorOf(Spec());
  EXPECT_EQ(loop.code(), absl::StatusCode::kInvalidArgument) << loop;
  EXPECT_EQ(DetailsOf(loop).reason, Reason::kBadModel);
  EXPECT_THAT(std::string(loop.message()),
              StartsWith("m/vocab.json: is a link that leads back to itself"));
  fs::remove(path_ / "vocab.json");

  std::ofstream(path_ / "config.json") << "no JSON";
  const absl::Status config = ErrorOf(Spec());
  EXPECT_EQ(config.code(), absl::StatusCode::kInvalidArgument) << config;
  EXPECT_THAT(std::string(config.message()), StartsWith("m/config.json: "));
  EXPECT_THAT(config.message(), Not(HasSubstr(bench_.directory().string())));
  EXPECT_EQ(DetailsOf(config).field, "model.path");
}

TEST(WithoutRootsTest, KeepsWhatElseAStatusSays) {
  const testing::TemporaryDirectory directory;
  const std::string root = directory.string();
  const absl::Status status =
      WithField(InvalidCall(Reason::kBadPath, root + "/a: not as " + root + "/b; see /etc/c"), "f");
  const absl::Status without = WithoutRoots(status, {root, "", "/"});
  EXPECT_EQ(without.message(), "a: not as b; see /etc/c");
  EXPECT_EQ(DetailsOf(without).reason, Reason::kBadPath);
  EXPECT_EQ(DetailsOf(without).field, "f");
  EXPECT_EQ(WithoutRoots(absl::OkStatus(), {root}), absl::OkStatus());
}

TEST_F(ChangedModelTest, OthersMayNotLookIntoTheWorkDirectory) {
  EXPECT_EQ(fs::status(bench_.directory() / "work").permissions(), fs::perms::owner_all);
}

}  // namespace
}  // namespace salient
