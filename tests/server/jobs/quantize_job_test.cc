// Checks what quantize jobs make: the same files for any number of workers, in blobs and in a
// directory.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/shard_index.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
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

class QuantizeJobTest : public testing::JobTest {
 protected:
  JobSpec Spec() const { return JobBench::Quantize(JobBench::Manifest(model_), tokens_); }

  // Returns the warnings but those about engines.
  std::vector<std::string> OtherWarnings(const std::string& job) {
    std::vector<std::string> warnings = Warnings(job);
    const auto engine = [](const std::string& warning) {
      return warning.find("the result loads in ") == 0;
    };
    warnings.erase(std::remove_if(warnings.begin(), warnings.end(), engine), warnings.end());
    return warnings;
  }
};

TEST_F(QuantizeJobTest, UploadedModelBecomesFilesThatAreTheConcatenationOfTheirParts) {
  SendAll();
  const JobSnapshot job = Run(Spec());
  std::set<std::string> names;
  int64_t bytes = 0;
  for (const ResultFile& file : job.files) {
    names.insert(file.name);
    EXPECT_EQ(DigestOf(bench_.Read(file)), file.digest) << file.name;
    bytes += file.digest.size_bytes;
    if (file.name == "tokenizer_config.json") {
      EXPECT_EQ(file.digest, DigestOf(model_.at(file.name)));
      EXPECT_EQ(file.parts, std::vector<Digest>{file.digest});
    }
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"config.json", "model.safetensors", "tokenizer_config.json"}));
  EXPECT_EQ(job.usage.bytes_out, bytes);
  const int64_t parameters = testing::ParametersOf({});
  EXPECT_EQ(job.usage.parameters, parameters);
  EXPECT_EQ(job.usage.bytes_in, 2 * parameters);
  EXPECT_GT(job.usage.seconds, 0);
  EXPECT_GT(job.usage.peak_memory_bytes, 0);
  EXPECT_FALSE(job.provisional);
  EXPECT_TRUE(job.missing.empty());
  EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
}

TEST_F(QuantizeJobTest, ResultsDoNotDependOnWorkersShardsChunksOrWhereTheModelIs) {
  TinyModel sharded;
  sharded.shards = 3;
  const Files shards = MakeModel(sharded);
  ASSERT_EQ(shards.count(kShardIndexName), 1u);
  std::map<std::string, Digest> expected;
  for (const int workers : {1, 2, 3}) {
    for (const Files* model : {&model_, &shards}) {
      JobBench bench(workers);
      ASSERT_TRUE(bench.Send(tokens_).ok());
      const std::string name =
          bench.Submit(JobBench::Quantize(JobBench::Manifest(*model, workers == 2), tokens_)).name;
      for (const auto& [file, content] : *model) {
        if (file == "pytorch_model.bin") continue;
        ASSERT_TRUE(bench.Send(content, static_cast<size_t>(100 * workers + 1)).ok());
      }
      const JobSnapshot job = bench.Finish(name);
      ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;
      if (expected.empty()) expected = DigestsOf(job);
      EXPECT_EQ(DigestsOf(job), expected) << workers << " workers";

      ModelSource path;
      path.path = "m";
      bench.WriteModel("m", *model);
      const JobSnapshot from_path =
          bench.Finish(bench.Submit(JobBench::Quantize(path, tokens_)).name);
      ASSERT_EQ(from_path.state, JobState::kSucceeded) << from_path.error;
      EXPECT_EQ(DigestsOf(from_path), expected) << workers << " workers, path";
      EXPECT_FALSE(from_path.provisional);
    }
  }
}

// The sources are a directory and blobs, and so are the results.
TEST_F(QuantizeJobTest, CarriesSubdirectoriesThatReadersNeedAndNamesWhatItLeavesBehind) {
  Files model = model_;
  model["1_Pooling/config.json"] = "{}";
  model["additional_chat_templates/tool_use.jinja"] = "{{ messages }}";
  model["README.md"] = "of other weights";
  model["adapter_config.json"] = "{\"peft_type\": \"LORA\"}";
  model["data.arrow"] = "rows";
  ASSERT_TRUE(bench_.Send(tokens_).ok());
  bench_.SendAll(model);
  bench_.WriteModel("nested", model);
  for (const ModelSource& source : {ModelSource{{}, "nested"}, JobBench::Manifest(model)}) {
    for (const std::string path : {"", "out"}) {
      JobSpec spec = JobBench::Quantize(source, tokens_);
      std::get<QuantizeTask>(spec.task).output_path =
          path.empty() ? "" : path + std::to_string(source.files.size());
      const JobSnapshot job = Run(spec);
      std::map<std::string, Digest> digests = DigestsOf(job);
      EXPECT_EQ(digests.size(), 5u);
      for (const char* name : {"1_Pooling/config.json", "tokenizer_config.json",
                               "additional_chat_templates/tool_use.jinja"}) {
        EXPECT_EQ(digests[name], DigestOf(model.at(name))) << name;
      }
      const std::vector<std::string> warnings = OtherWarnings(job.name);
      if (source.path.empty()) {
        EXPECT_TRUE(warnings.empty()) << warnings[0];
      } else {
        ASSERT_EQ(warnings.size(), 1u);
        EXPECT_EQ(warnings[0].find("left behind: README.md, adapter_config.json, data.arrow; "), 0u)
            << warnings[0];
      }
    }
  }
}

// In one model the residual stream passes 65504, in the other it stays below.
TEST_F(QuantizeJobTest, ConfigJsonSaysADTypeThatHasTheRangeOfTheActivations) {
  ASSERT_TRUE(bench_.Send(tokens_).ok());
  const auto run = [&](DType dtype, float factor) {
    TinyModel tiny;
    tiny.dtype = dtype;
    tiny.change = [&](const std::string& tensor, int64_t, float value) {
      const bool residual = tensor.find("embed") != tensor.npos ||
                            tensor.find("o_proj") != tensor.npos ||
                            tensor.find("down_proj") != tensor.npos;
      return residual ? factor * value : value;
    };
    const Files model = MakeModel(tiny);
    bench_.SendAll(model);
    const JobSnapshot job = Run(JobBench::Quantize(JobBench::Manifest(model), tokens_));
    std::string said = "nothing";
    for (const ResultFile& file : job.files) {
      if (file.name == "config.json") {
        const auto config = ParseModelConfig("config.json", bench_.Read(file));
        said = std::string(Name(Must(config).dtype.value_or(DType::kU8)));
      }
      if (file.name == "model.safetensors") {
        const std::string kept = dtype == DType::kBF16 ? "\"BF16\"" : "\"F16\"";
        const std::string head = testing::HeaderOf(bench_.Read(file));
        const size_t at = head.find("\"model.embed_tokens.weight\"");
        EXPECT_LT(head.find(kept, at), head.find('}', at)) << head;
      }
    }
    for (const std::string& warning : OtherWarnings(job.name)) {
      const size_t at = warning.find(": ");
      said += at == warning.npos ? warning : warning.substr(at, 54);
    }
    return said;
  };
  EXPECT_EQ(run(DType::kF16, 1), "F16");
  EXPECT_EQ(run(DType::kBF16, 1), "BF16");
  EXPECT_EQ(run(DType::kF32, 1), "F16");
  const std::string engines = ": engines that compute in float16, ";
  EXPECT_EQ(run(DType::kBF16, 0x1p17f).find("BF16" + engines + "whatever config.j"), 0u);
  EXPECT_EQ(run(DType::kF32, 0x1p17f).find("BF16: config.json says bfloat16"), 0u);
  const std::string half = run(DType::kF16, 0x1p17f);
  EXPECT_EQ(half.find("F16"), 0u);
  EXPECT_NE(half.find(engines + "as config.json sa"), half.npos) << half;
}

// Quantizes the test model by one worker and by several.
TEST_F(QuantizeJobTest, WorkersShareTheLoopsOfAJobAndChangeNothing) {
  // It is large enough for loops of many tasks.
  TinyModel large;
  large.layers = 2;
  large.hidden = 128;
  large.intermediate = 256;
  large.vocab = 256;
  const Files files = MakeModel(large);
  const std::string tokens = MakeTokens(3, 64, large.vocab, /*seed=*/5);
  std::map<std::string, Digest> expected;
  for (const int workers : {1, 2, 3}) {
    JobBench bench(workers);
    ASSERT_TRUE(bench.Send(tokens).ok());
    bench.WriteModel("m", files);
    ModelSource path;
    path.path = "m";
    const JobSnapshot job = bench.Finish(bench.Submit(JobBench::Quantize(path, tokens)).name);
    ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;
    if (expected.empty()) expected = DigestsOf(job);
    EXPECT_EQ(DigestsOf(job), expected) << workers << " workers";
    const WorkerPool::Stats stats = bench.pool().GetStats();
    ASSERT_EQ(stats.busy_seconds.size(), static_cast<size_t>(workers));
    for (const double seconds : stats.busy_seconds) EXPECT_GT(seconds, 0) << workers << " workers";
    for (const Stage stage : {Stage::kRead, Stage::kForward, Stage::kStatistics}) {
      EXPECT_GT(stats.stage_busy_seconds[static_cast<size_t>(stage)], 0) << Name(stage);
      EXPECT_GT(stats.stage_wall_seconds[static_cast<size_t>(stage)], 0) << Name(stage);
    }
    EXPECT_GT(stats.stage_wall_seconds[static_cast<size_t>(Stage::kWrite)], 0);
  }
}

TEST_F(QuantizeJobTest, ADirectoryHoldsTheSameFilesAndAppearsInTheEnd) {
  SendAll();
  const JobSnapshot blobs = Run(Spec());
  bench_.WriteModel("m", model_);
  for (const bool from_path : {true, false}) {
    JobSpec spec = Spec();
    if (from_path) spec.model = ModelSource{{}, "m"};
    const std::string output = from_path ? "from_path" : "from_blobs";
    std::get<QuantizeTask>(spec.task).output_path = output;
    const JobSnapshot job = Run(spec);
    EXPECT_EQ(DigestsOf(job), DigestsOf(blobs));
    EXPECT_EQ(job.usage.bytes_out, blobs.usage.bytes_out);
    const std::filesystem::path directory = bench_.directory() / "outputs" / output;
    for (const ResultFile& file : job.files) {
      EXPECT_TRUE(file.parts.empty());
      EXPECT_EQ(DigestOf(testing::FileContent(directory / file.name)), file.digest) << file.name;
    }
    size_t entries = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      entries += entry.exists();
    }
    EXPECT_EQ(entries, job.files.size());
    // And Checkpoint reads it.
    EXPECT_TRUE(Checkpoint::Open(directory.string()).ok());
  }
}

// 40 MB of embeddings: more than is held in memory at once.
TEST_F(QuantizeJobTest, ATensorTooLargeToHoldIsWholeAllTheSame) {
  TinyModel large;
  large.layers = 1;
  large.vocab = 620'000;
  const Files model = MakeModel(large);
  bench_.WriteModel("m", model);
  ASSERT_TRUE(bench_.Send(tokens_).ok());
  for (int run = 0; run < 2; ++run) {  // The second finds its blobs there.
    const JobSnapshot job = Run(JobBench::Quantize(ModelSource{{}, "m"}, tokens_));
    for (const ResultFile& file : job.files) {
      if (file.name != "model.safetensors") continue;
      const std::string whole = bench_.Read(file);
      ASSERT_EQ(DigestOf(whole), file.digest);
      const auto tensor = [](const std::string& content) {
        const auto view = Must(SafetensorsView::Parse("file", testing::AsBytes(content)));
        const absl::Span<const std::byte> bytes = Must(view.Tensor("model.embed_tokens.weight"));
        return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      };
      EXPECT_TRUE(tensor(whole) == tensor(model.at("model.safetensors")));
    }
  }
  EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
}

TEST_F(QuantizeJobTest, ErrorsOfTheCoreComeWithAReason) {
  TinyModel with_nan;
  with_nan.change = [](const std::string& tensor, int64_t index, float value) {
    const bool hit = tensor == "model.layers.1.mlp.up_proj.weight" && index == 33;
    return hit ? std::numeric_limits<float>::quiet_NaN() : value;
  };
  const Files model = MakeModel(with_nan);
  bench_.SendAll(model);
  ASSERT_TRUE(bench_.Send(tokens_).ok());
  const JobSnapshot job =
      bench_.Finish(bench_.Submit(JobBench::Quantize(JobBench::Manifest(model), tokens_)).name);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_TRUE(absl::IsInvalidArgument(job.error)) << job.error;
  EXPECT_EQ(DetailsOf(job.error).reason, Reason::kNonFinite);
  EXPECT_NE(job.error.message().find("model.layers.1.mlp.up_proj.weight"), absl::string_view::npos);
  EXPECT_EQ(bench_.store().Usage().blobs, 4);
}

}  // namespace
}  // namespace salient
