#include "server/jobs/quantize_job.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <thread>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/model_config.h"
#include "core/checkpoint/token_rows.h"
#include "core/linalg/executor.h"
#include "core/quantize_model.h"
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
    params.outputs[0].format.group_size = 16;
    params.work_directory = work;
    SerialExecutor executor;
    EXPECT_TRUE(QuantizeModel(checkpoint, config, rows, params, *this, executor).ok());
  }
  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> block) override {
    for (const NamedTensor& tensor : block) tensors[tensor.name] = testing::Bytes(tensor.data);
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport&) override {
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string&, const std::string&) override {
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t, int64_t) override { return absl::OkStatus(); }

  std::map<std::string, std::string> tensors;
};

// Bytes of the file up to the end of the last tensor whose name begins so.
size_t EndOf(const std::string& file, const std::string& prefix) {
  const auto view = Must(SafetensorsView::Parse(
      "file", absl::MakeConstSpan(reinterpret_cast<const std::byte*>(file.data()), file.size())));
  int64_t end = 0;
  for (const TensorEntry& entry : view.header().tensors()) {
    if (entry.name.rfind(prefix, 0) == 0) end = std::max(end, entry.end);
  }
  return testing::HeaderOf(file).size() + static_cast<size_t>(end);
}

class QuantizeJobTest : public ::testing::Test {
 protected:
  JobSpec Spec(bool with_headers = false) const {
    return JobBench::Quantize(JobBench::Manifest(model_, with_headers), tokens_);
  }
  // Everything but the weights.
  void SendOthers(JobBench& bench) const {
    ASSERT_TRUE(bench.Send(tokens_).ok());
    ASSERT_TRUE(bench.Send(model_.at("config.json")).ok());
    ASSERT_TRUE(bench.Send(model_.at("tokenizer_config.json")).ok());
  }
  const std::string& weights() const { return model_.at("model.safetensors"); }

  const Files model_ = MakeModel({});
  const std::string tokens_ = MakeTokens(4, 24, 40, 7);
};

TEST_F(QuantizeJobTest, UploadedModelBecomesFilesThatAreTheConcatenationOfTheirParts) {
  JobBench bench;
  bench.SendAll(model_);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const JobSnapshot job = bench.Finish(bench.Submit(Spec()).name);
  ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;
  std::set<std::string> names;
  int64_t bytes = 0;
  for (const ResultFile& file : job.files) {
    names.insert(file.name);
    std::string whole;
    for (const Digest& part : file.parts) whole += bench.Read(part);
    EXPECT_EQ(DigestOf(whole), file.digest) << file.name;
    bytes += file.digest.size_bytes;
    if (file.name == "tokenizer_config.json") {
      EXPECT_EQ(file.digest, DigestOf(model_.at(file.name)));
      EXPECT_EQ(file.parts, std::vector<Digest>{file.digest});
    }
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"config.json", "model.safetensors", "tokenizer_config.json"}));
  EXPECT_EQ(job.usage.bytes_out, bytes);
  int64_t parameters = 0;
  for (const auto& [name, shape] : testing::TensorsOf({})) {
    parameters += shape.size() == 2 ? shape[0] * shape[1] : shape[0];
  }
  EXPECT_EQ(job.usage.parameters, parameters);
  EXPECT_EQ(job.usage.bytes_in, 2 * parameters);
  EXPECT_GT(job.usage.seconds, 0);
  EXPECT_GT(job.usage.peak_memory_bytes, 0);
  EXPECT_FALSE(job.provisional);
  EXPECT_TRUE(job.missing.empty());
  EXPECT_TRUE(bench.WorkDirectoryIsEmpty());
}

// The promise of streaming: no byte beyond block 0 has been sent.
TEST_F(QuantizeJobTest, TensorsOfABlockAreReadableBeforeTheNextBlockArrives) {
  for (const bool with_headers : {false, true}) {
    JobBench bench(1);
    const Direct direct(bench.WriteModel("m", model_), tokens_, bench.directory().string());
    const std::string name = bench.Submit(Spec(with_headers)).name;
    SendOthers(bench);
    const Digest digest = DigestOf(weights());
    ASSERT_TRUE(bench.Send(digest, weights(), EndOf(weights(), "model.layers.0."), 1000).ok());
    std::map<std::string, TensorReady> ready;
    size_t expected = 0;
    for (const auto& [tensor, bytes] : direct.tensors) {
      expected += tensor.find("layers.0.") != tensor.npos;
    }
    bench.WatchUntil(name, [&](const JobEvent& event) {
      if (const auto* tensor = std::get_if<TensorReady>(&event.what)) ready[tensor->name] = *tensor;
      return ready.size() == expected;
    });
    ASSERT_EQ(ready.size(), expected);
    for (const auto& [tensor, what] : ready) {
      EXPECT_TRUE(what.provisional);
      EXPECT_EQ(bench.Read(what.digest), direct.tensors.at(tensor)) << tensor;
    }
    // And it says that it waits.
    bench.WatchUntil(name, [](const JobEvent& event) {
      const auto* progress = std::get_if<JobProgress>(&event.what);
      return progress != nullptr && progress->stage == JobProgress::Stage::kIngest;
    });
    JobSnapshot job = Must(bench.table().Get(name));
    EXPECT_EQ(job.state, JobState::kRunning);
    EXPECT_TRUE(job.provisional);
    EXPECT_EQ(job.missing, std::vector<Digest>{digest});

    ASSERT_TRUE(bench.Send(digest, weights(), weights().size() - 1, 1000).ok());
    bench.WatchUntil(name, [&](const JobEvent& event) {
      const auto* tensor = std::get_if<TensorReady>(&event.what);
      return tensor != nullptr && tensor->name.find("layers.2.") != std::string::npos;
    });
    EXPECT_EQ(Must(bench.table().Get(name)).state, JobState::kRunning);
    ASSERT_TRUE(bench.Send(digest, weights(), weights().size()).ok());
    job = bench.Finish(name);
    ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;

    // All tensors of the result file are those that the core gives alone.
    for (const ResultFile& file : job.files) {
      if (file.name != "model.safetensors") continue;
      std::string whole;
      for (const Digest& part : file.parts) whole += bench.Read(part);
      const auto view = Must(SafetensorsView::Parse(
          "result",
          absl::MakeConstSpan(reinterpret_cast<const std::byte*>(whole.data()), whole.size())));
      for (const auto& [tensor, bytes] : direct.tensors) {
        const absl::Span<const std::byte> found = Must(view.Tensor(tensor));
        EXPECT_EQ(testing::Bytes({found.begin(), found.end()}), bytes) << tensor;
      }
      EXPECT_EQ(view.header().tensors().size(), direct.tensors.size() + 2);
    }
  }
}

TEST_F(QuantizeJobTest, AWrongDigestAtTheEndFailsTheJobAndTakesBackItsTensors) {
  JobBench bench;
  SendOthers(bench);
  const std::string name = bench.Submit(Spec(true)).name;
  std::string wrong = weights();
  wrong.back() ^= 1;
  const Digest digest = DigestOf(weights());
  ASSERT_TRUE(bench.Send(digest, wrong, wrong.size() - 1).ok());
  std::vector<Digest> ready;
  bench.WatchUntil(name, [&](const JobEvent& event) {
    const auto* tensor = std::get_if<TensorReady>(&event.what);
    if (tensor != nullptr) ready.push_back(tensor->digest);
    return ready.size() == 30;
  });
  ASSERT_EQ(ready.size(), 30u);
  for (const Digest& tensor : ready) EXPECT_TRUE(bench.store().Status(tensor).complete);
  EXPECT_TRUE(absl::IsInvalidArgument(bench.Send(digest, wrong, wrong.size())));
  const JobSnapshot job = bench.Finish(name);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_TRUE(absl::IsInvalidArgument(job.error)) << job.error;
  EXPECT_EQ(DetailsOf(job.error).reason, Reason::kDigestMismatch);
  EXPECT_TRUE(job.files.empty());
  EXPECT_EQ(bench.store().FindMissing(ready).size(), ready.size());
  EXPECT_EQ(bench.store().Usage().blobs, 3);  // what SendOthers sent
  EXPECT_EQ(bench.store().Usage().uploads, 0);
  EXPECT_TRUE(bench.WorkDirectoryIsEmpty());
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

// The test model, quantized by one worker and by several.
TEST_F(QuantizeJobTest, WorkersShareTheLoopsOfAJobAndChangeNothing) {
  const std::filesystem::path data = std::string(SALIENT_SOURCE_DIR) + "/tests/data/pocket-llama";
  Files files;
  for (const std::string name : {"config.json", "model.safetensors"}) {
    std::ifstream file(data / name, std::ios::binary);
    files[name] = std::string(std::istreambuf_iterator<char>(file), {});
    ASSERT_FALSE(files[name].empty()) << name;
  }
  const std::string tokens = MakeTokens(3, 64, 2048, /*seed=*/5);
  std::map<std::string, Digest> expected;
  for (const int workers : {1, 2, 3}) {
    JobBench bench(workers);
    ASSERT_TRUE(bench.Send(tokens).ok());
    bench.WriteModel("pocket", files);
    ModelSource path;
    path.path = "pocket";
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
  JobBench bench;
  bench.SendAll(model_);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const JobSnapshot blobs = bench.Finish(bench.Submit(Spec()).name);
  ASSERT_EQ(blobs.state, JobState::kSucceeded) << blobs.error;
  bench.WriteModel("m", model_);
  for (const bool from_path : {true, false}) {
    JobSpec spec = Spec();
    if (from_path) spec.model = ModelSource{{}, "m"};
    const std::string output = from_path ? "from_path" : "from_blobs";
    std::get<QuantizeTask>(spec.task).output_path = output;
    const JobSnapshot job = bench.Finish(bench.Submit(spec).name);
    ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;
    EXPECT_EQ(DigestsOf(job), DigestsOf(blobs));
    EXPECT_EQ(job.usage.bytes_out, blobs.usage.bytes_out);
    const std::filesystem::path directory = bench.directory() / "outputs" / output;
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

// After each of the first events in turn: nothing stays, wherever the job was.
TEST_F(QuantizeJobTest, ACancelledJobLeavesNothing) {
  for (const bool to_directory : {false, true}) {
    for (const int64_t at : {1, 2, 3, 5, 9, 20, 40}) {
      JobBench bench;
      SendOthers(bench);
      JobSpec spec = Spec();
      if (to_directory) std::get<QuantizeTask>(spec.task).output_path = "out";
      const std::string name = bench.Submit(spec).name;
      // The last byte never comes, so the job cannot end by itself.
      ASSERT_TRUE(bench.Send(DigestOf(weights()), weights(), weights().size() - 1).ok());
      bench.WatchUntil(name, [at, to_directory](const JobEvent& event) {
        return event.revision >= (to_directory ? std::min<int64_t>(at, 10) : at);
      });
      const int64_t others = 3;
      ASSERT_TRUE(bench.table().Cancel(name).ok());
      const JobSnapshot job = bench.Finish(name);
      EXPECT_EQ(job.state, JobState::kCancelled) << job.error;
      EXPECT_EQ(job.error, absl::OkStatus());
      EXPECT_EQ(bench.store().Usage().blobs, others) << at;
      EXPECT_TRUE(bench.WorkDirectoryIsEmpty()) << at;
      EXPECT_TRUE(std::filesystem::is_empty(bench.directory() / "outputs")) << at;
      EXPECT_EQ(Must(bench.table().Cancel(name)).state, JobState::kCancelled);
    }
  }
}

TEST_F(QuantizeJobTest, AWatchFromAnyRevisionMissesNothing) {
  JobBench bench;
  std::atomic<int> observed = 0;
  bench.table().ObserveGroups([&observed](const TimedGroupReport&) { ++observed; });
  SendOthers(bench);
  const std::string name = bench.Submit(Spec()).name;
  std::vector<JobEvent> live;
  std::thread watcher([&] { live = bench.WatchToEnd(name); });
  ASSERT_TRUE(bench.Send(weights(), 500).ok());
  watcher.join();
  const auto lasting = [](const std::vector<JobEvent>& events, int64_t after) {
    std::vector<int64_t> revisions;
    for (const JobEvent& event : events) {
      if (std::holds_alternative<JobProgress>(event.what)) continue;
      if (event.revision > after) revisions.push_back(event.revision);
    }
    return revisions;
  };
  ASSERT_TRUE(std::is_sorted(live.begin(), live.end(),
                             [](const auto& a, const auto& b) { return a.revision < b.revision; }));
  EXPECT_EQ(std::get<JobState>(live.front().what), JobState::kQueued);
  EXPECT_EQ(std::get<JobState>(live.back().what), JobState::kSucceeded);
  EXPECT_EQ(live.back().revision, Must(bench.table().Get(name)).revision);
  for (int64_t after = 0; after <= live.back().revision; ++after) {
    EXPECT_EQ(lasting(bench.WatchToEnd(name, after), after), lasting(live, after)) << after;
  }
  int groups = 0;
  int64_t parameters = 0;
  for (const JobEvent& event : live) {
    if (const auto* group = std::get_if<TimedGroupReport>(&event.what)) {
      ++groups;
      parameters += group->report.parameters;
      EXPECT_GT(group->elapsed, absl::ZeroDuration());
      EXPECT_EQ(group->numerics_id, Must(bench.table().Get(name)).numerics_id);
    }
  }
  EXPECT_EQ(groups, 12);
  EXPECT_EQ(observed, 12);
  bench.table().ObserveGroups(nullptr);
  EXPECT_EQ(bench.table().GetStats().parameters_total, parameters);
  EXPECT_EQ(bench.table().GetStats().tokens_total, 3 * 4 * 24);
}

// 40 MB of embeddings: more than is held in memory at once.
TEST_F(QuantizeJobTest, ATensorTooLargeToHoldIsWholeAllTheSame) {
  TinyModel large;
  large.layers = 1;
  large.vocab = 620'000;
  const Files model = MakeModel(large);
  JobBench bench;
  bench.WriteModel("m", model);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  for (int run = 0; run < 2; ++run) {  // the second finds its blobs there
    const JobSnapshot job =
        bench.Finish(bench.Submit(JobBench::Quantize(ModelSource{{}, "m"}, tokens_)).name);
    ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;
    for (const ResultFile& file : job.files) {
      if (file.name != "model.safetensors") continue;
      std::string whole;
      for (const Digest& part : file.parts) whole += bench.Read(part);
      ASSERT_EQ(DigestOf(whole), file.digest);
      const auto tensor = [](const std::string& content) {
        const auto view = Must(SafetensorsView::Parse(
            "file", absl::MakeConstSpan(reinterpret_cast<const std::byte*>(content.data()),
                                        content.size())));
        const absl::Span<const std::byte> bytes = Must(view.Tensor("model.embed_tokens.weight"));
        return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      };
      EXPECT_TRUE(tensor(whole) == tensor(model.at("model.safetensors")));
    }
  }
  EXPECT_TRUE(bench.WorkDirectoryIsEmpty());
}

TEST_F(QuantizeJobTest, ErrorsOfTheCoreComeWithAReason) {
  TinyModel with_nan;
  with_nan.change = [](const std::string& tensor, int64_t index, float value) {
    const bool hit = tensor == "model.layers.1.mlp.up_proj.weight" && index == 33;
    return hit ? std::numeric_limits<float>::quiet_NaN() : value;
  };
  const Files model = MakeModel(with_nan);
  JobBench bench;
  bench.SendAll(model);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const JobSnapshot job =
      bench.Finish(bench.Submit(JobBench::Quantize(JobBench::Manifest(model), tokens_)).name);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_TRUE(absl::IsInvalidArgument(job.error)) << job.error;
  EXPECT_EQ(DetailsOf(job.error).reason, Reason::kNonFinite);
  EXPECT_NE(job.error.message().find("model.layers.1.mlp.up_proj.weight"), absl::string_view::npos);
  EXPECT_EQ(bench.store().Usage().blobs, 4);
}

TEST_F(QuantizeJobTest, InlineHeadersThatAreNotTheBlobsFailTheJob) {
  JobBench bench;
  JobSpec spec = Spec();
  for (ModelFile& file : spec.model.files) {
    if (file.name != "model.safetensors") continue;
    std::string header = testing::HeaderOf(weights());
    ASSERT_EQ(header.back(), ' ') << "the test needs padding";
    header.back() = '\t';  // white space for white space: the same tensors
    file.inline_content = header;
  }
  SendOthers(bench);
  const std::string name = bench.Submit(spec).name;
  ASSERT_TRUE(bench.Send(weights()).ok());
  const JobSnapshot job = bench.Finish(name);
  ASSERT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(DetailsOf(job.error).reason, Reason::kDigestMismatch) << job.error;
}

}  // namespace
}  // namespace salient
