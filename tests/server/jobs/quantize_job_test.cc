#include "server/jobs/quantize_job.h"

#include <gtest/gtest.h>

#include <set>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/model_config.h"
#include "core/checkpoint/token_rows.h"
#include "core/linalg/executor.h"
#include "core/quantize_model.h"
#include "server/jobs/call_error.h"
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

// What QuantizeModel emits without any server, by tensor.
class Direct final : public QuantizedModelSink {
 public:
  Direct(const std::string& directory, const std::string& tokens, const std::string& work) {
    const Checkpoint checkpoint = Must(Checkpoint::Open(directory));
    const ModelConfig config =
        Must(ParseModelConfig("config", Must(ReadTextFile(directory + "/config.json", 1 << 20))));
    const auto rows = Must(ReadTokenRows(
        "tokens",
        absl::MakeConstSpan(reinterpret_cast<const std::byte*>(tokens.data()), tokens.size()), 0));
    QuantizeModelParams params;
    params.format.group_size = 16;
    params.work_directory = work;
    SerialExecutor executor;
    EXPECT_TRUE(QuantizeModel(checkpoint, config, rows, params, *this, executor).ok());
  }
  absl::Status BlockDone(int64_t /*block*/, std::vector<NamedTensor> block) override {
    for (const NamedTensor& tensor : block) tensors[tensor.name] = testing::Bytes(tensor.data);
    return absl::OkStatus();
  }
  absl::Status GroupDone(const GroupReport&) override { return absl::OkStatus(); }
  absl::Status Kept(const std::string&, const std::string&) override { return absl::OkStatus(); }
  absl::Status TokensDone(int64_t, int64_t) override { return absl::OkStatus(); }

  std::map<std::string, std::string> tensors;
};

class QuantizeJobTest : public ::testing::Test {
 protected:
  const Files model_ = MakeModel({});
  const std::string tokens_ = MakeTokens(4, 24, 40, 7);
};

TEST_F(QuantizeJobTest, UploadedModelBecomesFilesThatAreTheConcatenationOfTheirParts) {
  JobBench bench;
  bench.SendAll(model_);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const JobSnapshot job =
      bench.Finish(bench.Submit(JobBench::Quantize(JobBench::Manifest(model_), tokens_)).name);
  ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;
  std::set<std::string> names;
  int64_t bytes = 0;
  for (const ResultFile& file : job.files) {
    names.insert(file.name);
    std::string whole;
    for (const Digest& part : file.parts) whole += bench.Read(part);
    EXPECT_EQ(DigestOf(whole), file.digest) << file.name;
    bytes += file.digest.size_bytes;
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"config.json", "model.safetensors", "tokenizer_config.json"}));
  EXPECT_EQ(job.usage.bytes_out, bytes);
  EXPECT_FALSE(job.provisional);
  EXPECT_TRUE(bench.WorkDirectoryIsEmpty());
}

}  // namespace
}  // namespace salient
