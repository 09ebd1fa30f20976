// Quantize jobs whose model arrives while they run: what is readable when, and what a stop, a wrong
// byte or a late watcher finds.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "core/group/quantize_group.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/named_tensor.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using testing::Files;
using testing::JobBench;
using testing::MakeModel;
using testing::MakeTokens;
using testing::Must;

// Collects what QuantizeModel emits without any server, by tensor.
class Direct final : public QuantizedModelSink {
 public:
  Direct(const std::string& directory, const std::string& tokens, const std::string& work) {
    const testing::ModelOnDisk model(directory);
    QuantizeModelParams params;
    params.outputs[0].format.group_size = 16;
    params.work_directory = work;
    SerialExecutor executor;
    EXPECT_TRUE(QuantizeModel(model.checkpoint, model.plan, testing::RowsOf(tokens), params, *this,
                              executor)
                    .ok());
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

// Returns the bytes of the file up to the end of the last tensor whose name begins so.
size_t EndOf(const std::string& file, const std::string& prefix) {
  const auto view = Must(SafetensorsView::Parse("file", testing::AsBytes(file)));
  int64_t end = 0;
  for (const TensorEntry& entry : view.header().tensors()) {
    if (entry.name.rfind(prefix, 0) == 0) end = std::max(end, entry.end);
  }
  return testing::HeaderOf(file).size() + static_cast<size_t>(end);
}

class ArrivingModelTest : public ::testing::Test {
 protected:
  JobSpec Spec(bool with_headers = false) const {
    return JobBench::Quantize(JobBench::Manifest(model_, with_headers), tokens_);
  }
  // Sends everything but the weights.
  void SendOthers(JobBench& bench) const {
    ASSERT_TRUE(bench.Send(tokens_).ok());
    ASSERT_TRUE(bench.Send(model_.at("config.json")).ok());
    ASSERT_TRUE(bench.Send(model_.at("tokenizer_config.json")).ok());
  }
  const std::string& weights() const { return model_.at("model.safetensors"); }

  const Files model_ = MakeModel({});
  const std::string tokens_ = MakeTokens(4, 24, 40, 7);
};

// The promise of streaming: no byte beyond block 0 has been sent.
TEST_F(ArrivingModelTest, TensorsOfABlockAreReadableBeforeTheNextBlockArrives) {
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
      const std::string whole = bench.Read(file);
      const auto view = Must(SafetensorsView::Parse("result", testing::AsBytes(whole)));
      for (const auto& [tensor, bytes] : direct.tensors) {
        const absl::Span<const std::byte> found = Must(view.Tensor(tensor));
        EXPECT_EQ(testing::Bytes({found.begin(), found.end()}), bytes) << tensor;
      }
      EXPECT_EQ(view.header().tensors().size(), direct.tensors.size() + 2);
    }
  }
}

TEST_F(ArrivingModelTest, InlineHeadersThatAreNotTheBlobsFailTheJob) {
  JobBench bench;
  JobSpec spec = Spec();
  for (ModelFile& file : spec.model.files) {
    if (file.name != "model.safetensors") continue;
    std::string header = testing::HeaderOf(weights());
    ASSERT_EQ(header.back(), ' ') << "the test needs padding";
    header.back() = '\t';  // White space for white space leaves the same tensors.
    file.inline_content = header;
  }
  SendOthers(bench);
  const std::string name = bench.Submit(spec).name;
  ASSERT_TRUE(bench.Send(weights()).ok());
  const JobSnapshot job = bench.Finish(name);
  ASSERT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(DetailsOf(job.error).reason, Reason::kDigestMismatch) << job.error;
}

// After each of the first events in turn: nothing stays, wherever the job was.
TEST_F(ArrivingModelTest, ACancelledJobLeavesNothing) {
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

TEST_F(ArrivingModelTest, AWatchFromAnyRevisionMissesNothing) {
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

}  // namespace
}  // namespace salient
