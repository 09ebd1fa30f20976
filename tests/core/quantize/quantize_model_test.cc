#include "core/quantize/quantize_model.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/group_observer.h"
#include "core/quality/perplexity.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/small_model.h"
#include "tests/support/sanitizer.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Must;
using testing::ReadAs;
using testing::SmallModel;
using testing::TestsDirectory;

std::vector<std::vector<int64_t>> Rows(const std::string& file, size_t count) {
  const std::vector<int32_t> ids = ReadAs<int32_t>(
      Must(SafetensorsFile::Open(TestsDirectory() + "data/pocket-llama/" + file)), "input_ids");
  std::vector<std::vector<int64_t>> rows;
  for (size_t r = 0; r < count; ++r) {
    rows.emplace_back(ids.begin() + static_cast<int64_t>(r) * 256,
                      ids.begin() + static_cast<int64_t>(r + 1) * 256);
  }
  return rows;
}

class Collector final : public QuantizedModelSink {
 public:
  explicit Collector(int64_t fail_at = -1) : fail_at_(fail_at) {}

  absl::Status TensorsDone(int64_t block, size_t /*output*/,
                           std::vector<NamedTensor> block_tensors) override {
    if (block == fail_at_) return absl::UnavailableError("the other end went away");
    blocks.push_back(block);
    for (NamedTensor& tensor : block_tensors) {
      const std::string name = tensor.name;
      tensors[name] = std::move(tensor);
    }
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& report) override {
    reports.push_back(report);
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& module,
                    const std::string& /*why*/) override {
    kept.push_back(module);
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }

  std::vector<int64_t> blocks;
  std::map<std::string, NamedTensor> tensors;
  std::vector<GroupReport> reports;
  std::vector<std::string> kept;

 private:
  int64_t fail_at_;
};

// Shows the source with what a run emitted in the place of its blocks: packed Linears decoded by
// the layout's description (output n in nibble {0,4,1,5,2,6,3,7}[n mod 8]).
class Overlay final : public TensorSource {
 public:
  Overlay(const TensorSource& source, const std::map<std::string, NamedTensor>& emitted)
      : source_(source), name_("overlay") {
    for (const auto& [name, tensor] : emitted) {
      const std::string suffix = name.substr(name.rfind('.'));
      if (suffix == ".qzeros" || suffix == ".scales") continue;
      if (suffix != ".qweight") {
        Add(tensor);
        continue;
      }
      const std::string module = name.substr(0, name.rfind('.'));
      Add(Decode(module, tensor, emitted.at(module + ".qzeros"), emitted.at(module + ".scales")));
    }
  }

  const std::string& name() const override { return name_; }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    const auto found = entries_.find(std::string(tensor));
    if (found == entries_.end()) return source_.Find(tensor);
    return TensorLocation{name_, &found->second};
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    const auto found = data_.find(std::string(tensor));
    if (found == data_.end()) return source_.ReadRange(tensor, offset, bytes);
    std::memcpy(bytes.data(), found->second.data() + offset, bytes.size());
    return absl::OkStatus();
  }

 private:
  void Add(const NamedTensor& tensor) {
    entries_[tensor.name] = {tensor.name, tensor.dtype, tensor.shape, 0,
                             static_cast<int64_t>(tensor.data.size())};
    data_[tensor.name] = tensor.data;
  }

  static NamedTensor Decode(const std::string& module, const NamedTensor& qweight,
                            const NamedTensor& qzeros, const NamedTensor& scales) {
    const int64_t inputs = qweight.shape[0], outputs = scales.shape[1], groups = scales.shape[0];
    const int nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    const auto code = [&](const NamedTensor& packed, int64_t row, int64_t n) {
      uint32_t word;
      std::memcpy(&word, packed.data.data() + 4 * (row * outputs / 8 + n / 8), 4);
      return static_cast<float>((word >> (4 * nibble[n % 8])) & 15);
    };
    NamedTensor weight{module + ".weight", DType::kF32, {outputs, inputs}, {}};
    weight.data.resize(static_cast<size_t>(4 * outputs * inputs));
    for (int64_t n = 0; n < outputs; ++n) {
      for (int64_t k = 0; k < inputs; ++k) {
        const int64_t g = k / (inputs / groups);
        uint16_t bits;
        std::memcpy(&bits, scales.data.data() + 2 * (g * outputs + n), 2);
        const float value = F16ToF32(bits) * (code(qweight, k, n) - code(qzeros, g, n));
        std::memcpy(weight.data.data() + 4 * (n * inputs + k), &value, 4);
      }
    }
    return weight;
  }

  const TensorSource& source_;
  std::string name_;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::vector<std::byte>> data_;
};

class QuantizeModelTest : public ::testing::Test {
 protected:
  QuantizeModelTest() : model_(TestsDirectory() + "data/pocket-llama") {
    LimitThreadToItself();
    params_.work_directory = Directory("work");
  }

  std::string Directory(const std::string& name) {
    const std::filesystem::path path =
        std::filesystem::path(::testing::TempDir()) /
        (std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()) + "." + name);
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
    return path.string();
  }

  absl::Status Quantize(const QuantizeModelParams& params, size_t rows, QuantizedModelSink& sink,
                        Executor& executor) {
    return QuantizeModel(model_.checkpoint, model_.plan, Rows("calibration_open.safetensors", rows),
                         params, sink, executor);
  }

  // Mean KL(source || result) over rows of other text.
  double Kl(const Collector& result) {
    const Overlay overlay(model_.checkpoint, result.tensors);
    Divergence total;
    for (const std::vector<int64_t>& tokens : Rows("evaluation_open.safetensors", 4)) {
      const Matrix source = Normed(model_.checkpoint, tokens);
      const Matrix changed = Normed(overlay, tokens);
      const OutputHead head = Must(OutputHead::Open(model_.checkpoint, model_.plan));
      RowDivergence divergence(256);
      for (int64_t slice = 0; slice < head.SliceCount(); ++slice) {
        const HeadSlice part = Must(head.Read(slice, threads_));
        const Matrix a = Must(Logits(source, part, threads_));
        const Matrix b = Must(Logits(changed, part, threads_));
        EXPECT_TRUE(divergence.Add(part.first_id, a.View(), b.View()).ok());
      }
      total.Add(Must(divergence.Finish()));
    }
    return total.MeanKl();
  }

  Matrix Normed(const TensorSource& source, const std::vector<int64_t>& tokens) {
    const BlockForward forward(model_.plan, ComputeDType::kF32, 256);
    Matrix hidden = Must(EmbedTokens(source, model_.plan, tokens));
    for (int64_t layer = 0; layer < model_.config.num_hidden_layers; ++layer) {
      const BlockWeights block = Must(ReadBlock(source, model_.plan, layer, threads_));
      hidden = Must(forward.Run(Must(forward.Prepare(block, threads_)), std::move(hidden),
                                IgnoreGroup, threads_));
    }
    const OutputHead head = Must(OutputHead::Open(source, model_.plan));
    return Must(head.Norm(hidden, threads_));
  }

  SmallModel model_;
  QuantizeModelParams params_;
  SerialExecutor serial_;
  testing::ThreadExecutor threads_{2};
};

// Scales folded the wrong way round, into the wrong rows or not at all would cost far more than
// quantization does.
TEST_F(QuantizeModelTest, ResultIsCloserToTheSourceThanRoundToNearest) {
  if (testing::kUnderSanitizer) GTEST_SKIP() << "SKIPPED: takes minutes under a sanitizer";
  Collector result;
  ASSERT_TRUE(Quantize(params_, 16, result, threads_).ok());
  QuantizeModelParams plain = params_;
  plain.work_directory = Directory("plain");
  plain.method = {ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
  Collector rtn;
  ASSERT_TRUE(Quantize(plain, 4, rtn, threads_).ok());
  const double kl = Kl(result);
  const double kl_rtn = Kl(rtn);
  EXPECT_LT(kl, 0.75 * kl_rtn) << "KL of the result " << kl << ", of round-to-nearest " << kl_rtn;
  EXPECT_LT(kl_rtn, 0.03);
  EXPECT_EQ(result.reports.size(), 16u);
  int64_t scaled = 0;
  for (const GroupReport& report : result.reports) {
    EXPECT_LE(report.loss, report.loss_rtn) << report.name;
    EXPECT_EQ(report.token_count, 16 * 256);
    scaled += report.candidate.identity ? 0 : 1;
    for (const LinearReport& linear : report.linears) {
      // The source is F16.
      EXPECT_EQ(linear.bytes_in, 2 * linear.out_features * linear.in_features) << linear.name;
    }
  }
  EXPECT_GT(scaled, 8) << "folding is tested only where there is something to fold";
}

TEST_F(QuantizeModelTest, AnInterruptedRunGoesOnAndEndsWithTheSameBytes) {
  Collector whole;
  ASSERT_TRUE(Quantize(params_, 3, whole, threads_).ok());
  QuantizeModelParams params = params_;
  params.work_directory = Directory("interrupted");
  Collector first(/*fail_at=*/2);
  EXPECT_EQ(Quantize(params, 3, first, serial_).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(first.blocks, (std::vector<int64_t>{0, 1}));
  Collector second;
  ASSERT_TRUE(Quantize(params, 3, second, serial_).ok());
  EXPECT_EQ(second.blocks, (std::vector<int64_t>{2, 3}));
  first.tensors.merge(second.tensors);
  ASSERT_EQ(first.tensors.size(), whole.tensors.size());
  for (const auto& [name, tensor] : whole.tensors) {
    EXPECT_EQ(first.tensors[name].data, tensor.data) << name;
  }
}

TEST_F(QuantizeModelTest, WhatTheGroupSizeDoesNotDivideStaysAndSaysSo) {
  params_.outputs[0].format.group_size = 768;  // Only down_proj fits.
  Collector result;
  ASSERT_TRUE(Quantize(params_, 2, result, threads_).ok());
  EXPECT_EQ(result.kept.size(), 4u * 6);
  EXPECT_TRUE(result.tensors.contains("model.layers.0.mlp.down_proj.qweight"));
  EXPECT_TRUE(result.tensors.contains("model.layers.0.mlp.up_proj.weight"));
  EXPECT_FALSE(result.tensors.contains("model.layers.0.mlp.up_proj.qweight"));
  params_.strict = true;
  params_.work_directory = Directory("strict");
  const absl::Status strict = Quantize(params_, 2, result, threads_);
  EXPECT_EQ(strict.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(strict.message().find("group_size is 768"), absl::string_view::npos) << strict;
}

TEST_F(QuantizeModelTest, NothingToQuantizeIsAnErrorBeforeAnyWork) {
  params_.outputs[0].format.group_size = 512;
  Collector result;
  const absl::Status status = Quantize(params_, 1, result, threads_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("nothing to quantize"), absl::string_view::npos) << status;
  EXPECT_TRUE(std::filesystem::is_empty(params_.work_directory));
}

TEST_F(QuantizeModelTest, CalibrationWithoutRowsOrTokensIsRefused) {
  Collector result;
  EXPECT_EQ(Quantize(params_, 0, result, threads_).code(), absl::StatusCode::kInvalidArgument);
  const std::vector<std::vector<int64_t>> rows = {{1, 2}, {}};
  const absl::Status status =
      QuantizeModel(model_.checkpoint, model_.plan, rows, params_, result, threads_);
  EXPECT_NE(status.message().find("row 1 has 0 tokens"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace salient
