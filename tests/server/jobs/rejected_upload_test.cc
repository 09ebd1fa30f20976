// Checks jobs that read an upload while somebody sends other bytes under the same digest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/store/upload.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using testing::DigestsOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::JobBench;
using testing::Must;

class RejectedUploadTest : public testing::JobTest {
 protected:
  RejectedUploadTest() {
    JobBench undisturbed;
    undisturbed.SendAll(model_);
    EXPECT_TRUE(undisturbed.Send(tokens_).ok());
    const JobSnapshot job = undisturbed.Finish(undisturbed.Submit(Spec()).name);
    EXPECT_EQ(job.state, JobState::kSucceeded) << job.error;
    clean_ = DigestsOf(job);
  }
  JobSpec Spec(bool with_headers = false) const {
    return JobBench::Quantize(JobBench::Manifest(model_, with_headers), tokens_);
  }
  void SendOthers() {
    ASSERT_TRUE(bench_.Send(tokens_).ok());
    ASSERT_TRUE(bench_.Send(model_.at("config.json")).ok());
    ASSERT_TRUE(bench_.Send(model_.at("tokenizer_config.json")).ok());
  }
  // Begins an upload of `content`, sends it up to `end`, and leaves it open.
  Upload Begin(const std::string& content, size_t end) {
    Upload upload =
        Must(bench_.store().BeginUpload(DigestOf(weights()), BlobStore::Maker::kClient, 0));
    EXPECT_EQ(upload.Append(0, content.substr(0, end)), absl::OkStatus());
    bench_.table().BlobChanged(DigestOf(weights()));
    return upload;
  }
  std::vector<Digest> WaitForTensors(const std::string& name, size_t count) {
    std::vector<Digest> ready;
    bench_.WatchUntil(name, [&](const JobEvent& event) {
      const auto* tensor = std::get_if<TensorReady>(&event.what);
      if (tensor != nullptr) ready.push_back(tensor->digest);
      return ready.size() == count;
    });
    EXPECT_EQ(ready.size(), count);
    return ready;
  }
  static bool IsWithdrawal(const JobEvent& event) {
    const auto* warning = std::get_if<JobWarning>(&event.what);
    return warning != nullptr && warning->text.find("withdrawn") != std::string::npos;
  }
  // Returns the warnings of them, when the job has ended.
  std::vector<std::string> Withdrawals(const std::string& name) {
    std::vector<std::string> texts;
    for (const JobEvent& event : bench_.WatchToEnd(name)) {
      if (IsWithdrawal(event)) texts.push_back(std::get<JobWarning>(event.what).text);
    }
    return texts;
  }
  void ExpectCleanEnd(const std::string& name) {
    const JobSnapshot job = bench_.Finish(name);
    EXPECT_EQ(job.state, JobState::kSucceeded) << job.error;
    EXPECT_EQ(DigestsOf(job), clean_);
    EXPECT_FALSE(job.provisional);
  }
  const std::string& weights() const { return model_.at("model.safetensors"); }

  std::map<std::string, Digest> clean_;
};

TEST_F(RejectedUploadTest, WrongBytesTakeTensorsBackAndTheJobWaitsForGoodOnes) {
  SendOthers();
  const std::string name = bench_.Submit(Spec(true)).name;
  std::string wrong = weights();
  wrong.back() ^= 1;
  wrong[wrong.size() / 2] ^= 1;
  const Digest digest = DigestOf(weights());
  ASSERT_TRUE(bench_.Send(digest, wrong, wrong.size() - 1).ok());
  const std::vector<Digest> ready = WaitForTensors(name, 30);
  EXPECT_TRUE(bench_.store().FindMissing(ready).empty());
  {
    // The one who sent all of it finishes the blob.
    auto upload = Must(bench_.store().BeginUpload(digest));
    ASSERT_EQ(upload.Append(upload.committed_bytes(), wrong.substr(wrong.size() - 1)),
              absl::OkStatus());
    EXPECT_TRUE(absl::IsInvalidArgument(upload.Finish()));
  }
  bench_.table().BlobChanged(digest);
  bench_.WatchUntil(name, IsWithdrawal);
  EXPECT_EQ(bench_.store().FindMissing(ready).size(), ready.size()) << "withdrawn";
  const JobSnapshot waiting = Must(bench_.table().Get(name));
  EXPECT_EQ(waiting.state, JobState::kRunning);
  EXPECT_THAT(waiting.missing, ElementsAre(digest));
  // What was sent before the rejected writer came is doubted, and wrong: one more try is in vain.
  EXPECT_TRUE(absl::IsInvalidArgument(bench_.Send(weights())));
  EXPECT_EQ(bench_.store().Status(digest).committed_bytes, 0);
  ASSERT_TRUE(bench_.Send(weights()).ok());
  ExpectCleanEnd(name);
  EXPECT_THAT(Withdrawals(name), ElementsAre(HasSubstr("model.safetensors: the upload")));
}

// The stranger is further, so it is his bytes that are read: no header, or nothing but NaN.
TEST_F(RejectedUploadTest, WhatAStrangerSendsDoesNotFailTheJob) {
  const std::string header = testing::HeaderOf(weights());
  const std::string garbage[] = {
      std::string(weights().size(), '#'),
      header + std::string(weights().size() - header.size(), '\xff'),
  };
  for (const std::string& wrong : garbage) {
    JobBench bench;
    for (const std::string* content :
         {&tokens_, &model_.at("config.json"), &model_.at("tokenizer_config.json")}) {
      ASSERT_TRUE(bench.Send(*content).ok());
    }
    const Digest digest = DigestOf(weights());
    auto stranger = Must(bench.store().BeginUpload(digest));
    ASSERT_EQ(stranger.Append(0, wrong.substr(0, wrong.size() - 1)), absl::OkStatus());
    const std::string name = bench.Submit(Spec()).name;
    auto owner = Must(bench.store().BeginUpload(digest, BlobStore::Maker::kClient, 0));
    ASSERT_EQ(owner.Append(0, weights().substr(0, 1000)), absl::OkStatus());
    bench.table().BlobChanged(digest);
    bench.WatchUntil(name, [](const JobEvent& event) {
      const auto* state = std::get_if<JobState>(&event.what);
      return state != nullptr && *state == JobState::kRunning;
    });
    ASSERT_EQ(stranger.Append(static_cast<int64_t>(wrong.size()) - 1, "#"), absl::OkStatus());
    EXPECT_TRUE(absl::IsInvalidArgument(stranger.Finish()));
    bench.table().BlobChanged(digest);
    EXPECT_EQ(bench.store().Status(digest).committed_bytes, 1000) << "the owner's";
    ASSERT_EQ(owner.Append(1000, weights().substr(1000)), absl::OkStatus());
    ASSERT_EQ(owner.Finish(), absl::OkStatus());
    bench.table().BlobChanged(digest);
    const JobSnapshot job = bench.Finish(name);
    EXPECT_EQ(job.state, JobState::kSucceeded) << job.error;
    EXPECT_EQ(DigestsOf(job), clean_);
  }
}

TEST_F(RejectedUploadTest, ARejectedFileThatWasNotReadCostsNothing) {
  ASSERT_TRUE(bench_.Send(tokens_).ok());
  const std::string name = bench_.Submit(Spec()).name;
  const std::string& carried = model_.at("tokenizer_config.json");
  EXPECT_TRUE(absl::IsInvalidArgument(
      bench_.Send(DigestOf(carried), std::string(carried.size(), '#'), carried.size())));
  EXPECT_EQ(Must(bench_.table().Get(name)).state, JobState::kQueued);
  bench_.SendAll(model_);
  ExpectCleanEnd(name);
  EXPECT_THAT(Withdrawals(name), IsEmpty());
}

TEST_F(RejectedUploadTest, TheSameBytesOfAnotherWriterAreNoReasonToBeginAnew) {
  SendOthers();
  const Upload slow = Begin(weights(), weights().size() - 1);
  const std::string name = bench_.Submit(Spec()).name;
  WaitForTensors(name, 30);
  ASSERT_TRUE(bench_.Send(weights()).ok());
  ExpectCleanEnd(name);
  EXPECT_THAT(Withdrawals(name), IsEmpty());
}

TEST_F(RejectedUploadTest, ABadModelIsCalledSoWhenItsBytesAreVerified) {
  std::string bad = weights();
  const size_t header = testing::HeaderOf(bad).size();
  std::fill(bad.begin() + static_cast<std::ptrdiff_t>(header), bad.end(), '\xff');
  testing::Files files = model_;
  files["model.safetensors"] = bad;
  SendOthers();
  const std::string name =
      bench_.Submit(JobBench::Quantize(JobBench::Manifest(files, true), tokens_)).name;
  ASSERT_TRUE(bench_.Send(bad).ok());
  const JobSnapshot job = bench_.Finish(name);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(DetailsOf(job.error).reason, Reason::kNonFinite) << job.error;
}

}  // namespace
}  // namespace salient
