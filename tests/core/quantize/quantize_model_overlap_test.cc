// Checks what overlaps in the block loop: reading a block, computing one, tensors going out.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/tensor_source.h"
#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/quantize/quantize_model.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::SmallModel;
using testing::TestsDirectory;

// Records what happened, in order.
class Events {
 public:
  void Add(std::string event) {
    const std::lock_guard<std::mutex> lock(mu_);
    if (std::find(events_.begin(), events_.end(), event) == events_.end()) {
      events_.push_back(std::move(event));
    }
  }
  bool InOrder(const std::string& first, const std::string& second) const {
    const auto at = std::find(events_.begin(), events_.end(), first);
    return at != events_.end() && std::find(at, events_.end(), second) != events_.end();
  }

 private:
  std::mutex mu_;
  std::vector<std::string> events_;  // Each stands once, when it happened first.
};

// Is a model of which the blocks of `missing` are on their way.
class WatchedSource final : public TensorSource {
 public:
  WatchedSource(const TensorSource& source, Events& events, std::vector<int64_t> missing)
      : source_(source), events_(events), missing_(std::move(missing)) {}

  const std::string& name() const override { return source_.name(); }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    return source_.Find(tensor);
  }
  bool IsHere(absl::string_view tensor) const override {
    return std::none_of(missing_.begin(), missing_.end(), [tensor](int64_t layer) {
      return absl::StrContains(tensor, absl::StrCat("layers.", layer, "."));
    });
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    for (int64_t layer = 0; layer < 4; ++layer) {
      if (absl::StrContains(tensor, absl::StrCat("layers.", layer, "."))) {
        events_.Add(absl::StrCat("read ", layer));
      }
    }
    return source_.ReadRange(tensor, offset, bytes);
  }

 private:
  const TensorSource& source_;
  Events& events_;
  const std::vector<int64_t> missing_;
};

// Has the tensors of a block out only when the next one's come, if it is slow.
class WatchedSink final : public QuantizedModelSink {
 public:
  WatchedSink(Events& events, bool slow, int64_t fail_at = -1)
      : events_(events), slow_(slow), fail_at_(fail_at) {}

  absl::Status TensorsDone(int64_t block, size_t /*output*/,
                           std::vector<NamedTensor> block_tensors) override {
    if (block == fail_at_) return absl::UnavailableError("the other end went away");
    events_.Add(absl::StrCat("done ", block));
    blocks.push_back(block);
    for (NamedTensor& tensor : block_tensors) {
      const std::string name = tensor.name;
      tensors[name] = std::move(tensor);
    }
    return absl::OkStatus();
  }
  bool IsOut(int64_t /*block*/) const override { return !slow_; }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& /*report*/) override {
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& /*module*/,
                    const std::string& /*why*/) override {
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t block, int64_t /*tokens*/) override {
    events_.Add(absl::StrCat("tokens ", block));
    return absl::OkStatus();
  }

  std::vector<int64_t> blocks;
  std::map<std::string, NamedTensor> tensors;

 private:
  Events& events_;
  const bool slow_;
  const int64_t fail_at_;
};

class QuantizeModelOverlapTest : public ::testing::Test {
 protected:
  QuantizeModelOverlapTest() : model_(TestsDirectory() + "data/pocket-llama") {
    LimitThreadToItself();
    params_.method = {
        ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
    Begin();
  }

  // The next run goes on from nothing.
  void Begin() {
    const std::filesystem::path path =
        std::filesystem::path(::testing::TempDir()) /
        (std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()) + ".work");
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
    params_.work_directory = path.string();
  }

  absl::Status Quantize(const TensorSource& source, QuantizedModelSink& sink) {
    const std::vector<std::vector<int64_t>> rows = {{1, 17, 40, 3, 5}, {9, 8, 7}};
    return QuantizeModel(source, model_.plan, rows, params_, sink, executor_);
  }

  SmallModel model_;
  QuantizeModelParams params_;
  Events events_;
  testing::ThreadExecutor executor_{2};
};

TEST_F(QuantizeModelOverlapTest, ABlockIsReadWhenTheOneBeforeIsCalibratedIfItIsHere) {
  const WatchedSource source(model_.checkpoint, events_, /*missing=*/{2});
  WatchedSink sink(events_, /*slow=*/false);
  ASSERT_TRUE(Quantize(source, sink).ok());
  EXPECT_TRUE(events_.InOrder("tokens 0", "read 1"));
  EXPECT_TRUE(events_.InOrder("read 1", "done 0"));
  EXPECT_TRUE(events_.InOrder("done 1", "read 2")) << "bytes that have not come must not be read";
  EXPECT_TRUE(events_.InOrder("tokens 2", "read 3"));
  EXPECT_TRUE(events_.InOrder("read 3", "done 2"));
}

// A later run makes again what was not certainly out, and nothing else.
TEST_F(QuantizeModelOverlapTest, ARunGoesOnBehindTheTensorsThatAreOut) {
  WatchedSink whole(events_, /*slow=*/false);
  ASSERT_TRUE(Quantize(model_.checkpoint, whole).ok());
  for (const bool slow : {false, true}) {
    SCOPED_TRACE(slow);
    Begin();
    WatchedSink first(events_, slow, /*fail_at=*/3);
    EXPECT_TRUE(absl::IsUnavailable(Quantize(model_.checkpoint, first)));
    EXPECT_EQ(first.blocks, (std::vector<int64_t>{0, 1, 2}));
    WatchedSink second(events_, slow);
    ASSERT_TRUE(Quantize(model_.checkpoint, second).ok());
    EXPECT_EQ(second.blocks, slow ? (std::vector<int64_t>{2, 3}) : std::vector<int64_t>{3});
    for (const auto& [name, tensor] : second.tensors) {
      EXPECT_EQ(tensor.data, whole.tensors.at(name).data) << name;
    }
  }
}

}  // namespace
}  // namespace salient
