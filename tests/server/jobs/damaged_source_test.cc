// Jobs whose sources rot on disk: none ends well, none leaves anything, and the blob is asked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "server/store/layout.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::JobBench;

class DamagedSourceTest : public testing::JobTest {
 protected:
  std::filesystem::path PathOf(const Digest& digest) {
    return bench_.directory() / "store/blobs/sha256" / HexSha256(digest).substr(0, 2) /
           BlobName(digest);
  }
  // Flips one bit where the blob lies.
  void Damage(const std::string& content, size_t at) {
    std::fstream file(PathOf(DigestOf(content)), std::ios::in | std::ios::out | std::ios::binary);
    ASSERT_TRUE(file.is_open());
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(content[at] ^ 0x10));
  }
  // Returns the error of the submission, or of the job.
  absl::Status ErrorOf(JobSpec spec) {
    const absl::StatusOr<JobSnapshot> job = bench_.table().Submit(std::move(spec), "", "", false);
    if (!job.ok()) return job.status();
    const JobSnapshot ended = bench_.Finish(job->name);
    EXPECT_EQ(ended.state, JobState::kFailed);
    EXPECT_TRUE(ended.files.empty());
    return ended.error;
  }
  JobSpec Quantize(bool config_is_inline = true, const std::string& output_path = "") {
    ModelSource source = JobBench::Manifest(model_, /*with_headers=*/true);
    for (ModelFile& file : source.files) {
      if (!config_is_inline) file.inline_content = std::nullopt;
    }
    JobSpec spec = JobBench::Quantize(std::move(source), tokens_);
    std::get<QuantizeTask>(spec.task).output_path = output_path;
    return spec;
  }
  static JobSpec WithTokenName(JobSpec spec) {
    if (auto* quantize = std::get_if<QuantizeTask>(&spec.task)) {
      quantize->calibration.name = "my rows.safetensors";
    } else if (auto* evaluate = std::get_if<EvaluateTask>(&spec.task)) {
      evaluate->tokens.name = "my rows.safetensors";
    }
    return spec;
  }
  JobSpec Evaluate() {
    EvaluateTask task;
    task.tokens.tokens = DigestOf(tokens_);
    return JobBench::Spec(JobBench::Manifest(model_, /*with_headers=*/true), task);
  }
};

TEST_F(DamagedSourceTest, AFlippedBitFailsTheJobAndIsAskedForAgain) {
  const std::string& weights = model_.at("model.safetensors");
  const std::string& carried = model_.at("tokenizer_config.json");
  const std::string& config = model_.at("config.json");
  struct Case {
    const char* file;
    const std::string& content;
    size_t at;
    JobSpec spec;
  };
  const Case cases[] = {
      {"model.safetensors: tensor model.embed_tokens.weight: bytes ", weights,
       testing::HeaderOf(weights).size() + 100, Quantize()},
      {"model.safetensors: tensor ", weights, weights.size() - 1, Quantize(true, "out")},
      {"model.safetensors: ", weights, weights.size() / 2, Evaluate()},
      {"model.safetensors: tensor ", weights, 20, Quantize()},
      {"model.safetensors: ", weights, 20, Quantize(/*config_is_inline=*/false)},
      {"tokens", tokens_, tokens_.size() - 7, Quantize()},
      {"tokens", tokens_, tokens_.size() - 7, Evaluate()},
      {"my rows.safetensors: blob ", tokens_, tokens_.size() - 7, WithTokenName(Quantize())},
      {"my rows.safetensors: blob ", tokens_, tokens_.size() - 7, WithTokenName(Evaluate())},
      {"tokenizer_config.json", carried, 5, Quantize()},
      {"tokenizer_config.json", carried, 5, Quantize(true, "out")},
      {"config.json", config, config.find("1e-05"), Quantize(/*config_is_inline=*/false)},
  };
  for (const bool restarted : {false, true}) {
    for (const Case& damaged : cases) {
      SCOPED_TRACE(::testing::Message()
                   << damaged.file << damaged.at << " restarted " << restarted);
      SendAll();
      if (restarted) bench_.Restart();
      const int64_t blobs = bench_.store().Usage().blobs;
      Damage(damaged.content, damaged.at);
      const absl::Status error = ErrorOf(damaged.spec);
      const Digest digest = DigestOf(damaged.content);
      EXPECT_EQ(error.code(), absl::StatusCode::kDataLoss) << error;
      EXPECT_EQ(DetailsOf(error).reason, Reason::kBlobDamaged);
      // After a restart it is found before any tensor is read.
      EXPECT_THAT(error.message(),
                  HasSubstr(restarted ? std::string(damaged.file).substr(0, 6) : damaged.file));
      EXPECT_THAT(error.message(), HasSubstr(ToString(digest)));
      EXPECT_THAT(bench_.store().FindMissing({digest}), ElementsAre(digest));
      EXPECT_TRUE(
          std::filesystem::exists(bench_.directory() / "store/quarantine" / BlobName(digest)));
      EXPECT_EQ(bench_.store().Usage().blobs, blobs - 1) << "no result stays";
      EXPECT_TRUE(std::filesystem::is_empty(bench_.directory() / "outputs"));
    }
  }
}

TEST_F(DamagedSourceTest, WhatIsSentAgainIsUsed) {
  SendAll();
  const auto clean = testing::DigestsOf(Run(Quantize()));
  Damage(model_.at("model.safetensors"), 5000);
  EXPECT_TRUE(absl::IsDataLoss(ErrorOf(Quantize())));
  SendAll();
  EXPECT_EQ(testing::DigestsOf(Run(Quantize())), clean);
}

TEST_F(DamagedSourceTest, AfterARestartTheSameFilesAreMade) {
  SendAll();
  const auto clean = testing::DigestsOf(Run(Quantize()));
  bench_.Restart();
  EXPECT_FALSE(bench_.store().IsVerified(DigestOf(tokens_)));
  EXPECT_EQ(testing::DigestsOf(Run(Quantize())), clean);
  EXPECT_TRUE(bench_.store().IsVerified(DigestOf(model_.at("model.safetensors"))));
}

}  // namespace
}  // namespace salient
