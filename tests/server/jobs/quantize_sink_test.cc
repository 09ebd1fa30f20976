// Checks what observers hear while tensors are still being written.
#include "server/jobs/quantize_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/tensor_source.h"
#include "core/group/quantize_group.h"
#include "core/model/activation_range.h"
#include "core/model/activations.h"
#include "core/result/quantized_checkpoint.h"
#include "core/result/raised_group.h"
#include "core/safetensors/layout.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "server/jobs/blob_arrival.h"
#include "server/jobs/job.h"
#include "server/jobs/job_progress.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/result_blobs.h"
#include "server/workers/cancel_token.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::JobBench;

// Begins what it is given only when somebody waits for it: the slowest thread there can be.
class LateExecutor final : public Executor {
 public:
  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    return serial_.ForEach(count, task);
  }
  std::unique_ptr<Background> Start(absl::AnyInvocable<absl::Status()> work) override {
    return std::make_unique<Late>(std::move(work));
  }
  int Concurrency() const override { return 1; }

 private:
  class Late final : public Background {
   public:
    explicit Late(absl::AnyInvocable<absl::Status()> work) : work_(std::move(work)) {}
    absl::Status Wait() override { return work_(); }

   private:
    absl::AnyInvocable<absl::Status()> work_;
  };
  SerialExecutor serial_;
};

using Told = std::vector<std::string>;

class FakeOutput final : public JobOutput {
 public:
  explicit FakeOutput(Told& told) : told_(told) {}

  absl::Status AddTensors(size_t, absl::Span<const NamedTensor> tensors) override {
    ++writes;
    if (!fault.ok()) return fault;
    for (const NamedTensor& tensor : tensors) told_.push_back("wrote " + tensor.name);
    return absl::OkStatus();
  }
  absl::Status Settle(std::vector<QuantizedCheckpointPlan>) override { return absl::OkStatus(); }
  absl::Status AddBytes(const TensorShape&, int64_t, absl::Span<const std::byte>) override {
    return absl::OkStatus();
  }
  absl::StatusOr<int64_t> Finish() override { return 0; }

  absl::Status fault;
  int writes = 0;

 private:
  Told& told_;
};

class FakeObserver final : public JobObserver {
 public:
  explicit FakeObserver(Told& told) : told_(told) {}

  void Happened(decltype(JobEvent::what) what) override {
    if (std::holds_alternative<TimedGroupReport>(what)) told_.push_back("report");
    if (const auto* warning = std::get_if<JobWarning>(&what); warning != nullptr) {
      told_.push_back("warning");
      warnings.push_back(warning->text);
    }
  }
  void Computed(int64_t, int64_t) override {}
  void Advanced(double) override {}

  std::vector<std::string> warnings;

 private:
  Told& told_;
};

// This is the source of a model whose blocks are never done.
class NoTensors final : public TensorSource {
 public:
  const std::string& name() const override { return name_; }
  absl::StatusOr<TensorLocation> Find(absl::string_view) const override {
    return absl::NotFoundError("none");
  }
  absl::Status ReadRange(absl::string_view, int64_t, absl::Span<std::byte>) const override {
    return absl::NotFoundError("none");
  }

 private:
  const std::string name_ = "nothing";
};

// Is one call of the sink that tells something.
struct Teller {
  const char* name;
  std::function<absl::Status(QuantizeSink&)> tell;
  const char* told;
};

class QuantizeSinkTest : public ::testing::Test {
 protected:
  QuantizeSinkTest() {
    prepared_.outputs.resize(1);
    prepared_.model.manifest.model.blocks.resize(1);
  }

  static std::vector<NamedTensor> Tensors(const std::string& name) {
    return {{name, DType::kF16, {1}, std::vector<std::byte>(2)}};
  }

  Told told_;
  JobBench bench_;
  const JobSpec spec_{};
  PreparedJob prepared_;
  ResultBlobs blobs_{bench_.store()};
  ResultBlobs::Hold results_{blobs_};
  CancelToken stop_;
  BlobArrival arrival_{bench_.store(), stop_, absl::Hours(1), [] {}};
  LateExecutor executor_;
  FakeObserver observer_{told_};
  JobProgressReporter progress_{observer_, [] { return absl::ZeroDuration(); }, 1.0};
  const std::string directory_ = bench_.directory().string();
  RunningJob job_{spec_, prepared_, bench_.store(), results_,  arrival_,
                  stop_, executor_, observer_,      progress_, directory_};
  FakeOutput output_{told_};
  const NoTensors source_;
  QuantizeSink sink_{job_, ComputeDType::kBF16, {}, source_, nullptr, output_};
};

class QuantizeSinkTellsTest : public QuantizeSinkTest,
                              public ::testing::WithParamInterface<Teller> {};

INSTANTIATE_TEST_SUITE_P(
    Calls, QuantizeSinkTellsTest,
    ::testing::Values(
        Teller{"GroupDone", [](QuantizeSink& sink) { return sink.GroupDone(0, GroupReport()); },
               "report"},
        Teller{"AllZero", [](QuantizeSink& sink) { return sink.AllZero({"m.weight"}); }, "warning"},
        Teller{"RangeGrew",
               [](QuantizeSink& sink) {
                 return sink.RangeGrew({7e4f, "it"});
               },
               "warning"},
        Teller{"Raised", [](QuantizeSink& sink) { return sink.Raised(RaisedGroup()); }, "warning"}),
    [](const auto& teller) { return std::string(teller.param.name); });

TEST_P(QuantizeSinkTellsTest, TellsOfABlockWhenTheTensorsOfTheOneBeforeAreOut) {
  ASSERT_TRUE(sink_.TensorsDone(0, 0, Tensors("a")).ok());
  EXPECT_FALSE(sink_.IsOut(0));
  EXPECT_THAT(told_, IsEmpty());
  ASSERT_TRUE(GetParam().tell(sink_).ok());
  EXPECT_TRUE(sink_.IsOut(0));
  EXPECT_THAT(told_, ElementsAre("wrote a", GetParam().told));
}

TEST_P(QuantizeSinkTellsTest, TellsNothingAfterAWriteThatFailed) {
  output_.fault = absl::ResourceExhaustedError("full");
  ASSERT_TRUE(sink_.TensorsDone(0, 0, Tensors("a")).ok());
  EXPECT_EQ(GetParam().tell(sink_), output_.fault);
  EXPECT_THAT(told_, IsEmpty());
}

// However many results there are, the tensors of one are waiting.
TEST_F(QuantizeSinkTest, HoldsOneSetOfTensorsAtATime) {
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(sink_.TensorsDone(0, 0, Tensors(name)).ok());
  }
  EXPECT_EQ(output_.writes, 2);
  ASSERT_TRUE(sink_.WaitForWriting().ok());
  EXPECT_THAT(told_, ElementsAre("wrote a", "wrote b", "wrote c"));
}

// Warnings come once when activations near what F16 holds and once when they pass it, if engines
// compute in float16. Of other models a warning tells what engines do anyway.
TEST_F(QuantizeSinkTest, WarnsOfActivationsThatF16CannotHold) {
  struct Case {
    PlainDTypes dtypes;
    std::vector<std::string> warnings;  // Each says one.
  };
  const std::vector<Case> cases = {
      {{DType::kF16, DType::kF16, {}, false},
       {"activations reach 40000 in b, and F16 holds 65504 at most, which other text may reach",
        "activations reach 70000 in c, and F16 holds 65504 at most: engines that compute in "
        "float16, "
        "as config.json says, give NaN"}},
      {{DType::kBF16, DType::kBF16, {}, false},
       {"activations reach 70000 in c, and F16 holds 65504 at most: engines that compute in "
        "float16, "
        "whatever config.json says, give NaN"}},
      {{DType::kF16, DType::kF16, {}, true},
       {"activations reach 40000 in b, and F16 holds 65504 at most: config.json says bfloat16"}}};
  for (const Case& expected : cases) {
    observer_.warnings.clear();
    QuantizeSink sink(job_, ComputeDType::kBF16, expected.dtypes, source_, nullptr, output_);
    for (const ActivationRange& range :
         {ActivationRange{3, "a"}, ActivationRange{4e4f, "b"}, ActivationRange{5e4f, "b2"},
          ActivationRange{7e4f, "c"}, ActivationRange{1e9f, "d"}}) {
      ASSERT_TRUE(sink.RangeGrew(range).ok());
    }
    ASSERT_EQ(observer_.warnings.size(), expected.warnings.size());
    for (size_t i = 0; i < expected.warnings.size(); ++i) {
      EXPECT_EQ(observer_.warnings[i].find(expected.warnings[i]), 0u) << observer_.warnings[i];
    }
    EXPECT_EQ(sink.range().largest, 1e9f);
  }
}

}  // namespace
}  // namespace salient
