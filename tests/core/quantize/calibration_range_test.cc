// Checks what a run tells of the activations that its calibration saw, and of tensors of zeros.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/model/activation_range.h"
#include "core/model/activations.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/group_observer.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/llama_places.h"
#include "tests/core/quantize/quantize_outputs_fixture.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kAwq;
using testing::Must;
using testing::Results;
using testing::Stored;

class CalibrationRangeTest : public testing::QuantizeOutputsFixture {
 protected:
  CalibrationRangeTest() { params_.compute = ComputeDType::kF32; }

  // Makes the model anew with one tensor, in F16, multiplied by `factor`.
  void Multiply(const std::string& changed, float factor) {
    std::vector<NamedTensor> tensors;
    for (const std::string& name : model_->checkpoint.TensorNames()) {
      const TensorEntry& entry = *Must(model_->checkpoint.Find(name)).entry;
      NamedTensor tensor{name, entry.dtype, entry.shape, Source(name)};
      for (size_t i = 0; name == changed && i < tensor.data.size(); i += 2) {
        uint16_t bits;
        std::memcpy(&bits, tensor.data.data() + i, 2);
        bits = F32ToF16(factor * F16ToF32(bits));
        std::memcpy(tensor.data.data() + i, &bits, 2);
      }
      tensors.push_back(std::move(tensor));
    }
    const std::string path = Directory("changed");
    ASSERT_TRUE(WriteSafetensors(path + "/model.safetensors", ToWrite(tensors), {}).ok());
    std::ofstream(path + "/config.json") << config_json_;
    model_ = std::make_unique<testing::SmallModel>(path);
  }

  // Returns the largest of all calibration rows.
  float LargestOf(const std::function<Matrix(const std::vector<int64_t>&)>& states) const {
    float largest = 0;
    for (const std::vector<int64_t>& row : Rows()) {
      largest = std::max(largest, LargestMagnitude(states(row)));
    }
    return largest;
  }

  SerialExecutor serial_;
};

TEST_F(CalibrationRangeTest, TellsHowFarActivationsReachAndWhere) {
  Multiply("model.layers.2.mlp.down_proj.weight", 0x1p12f);
  const std::vector<ActivationRange> ranges = Quantize({Stored(kAwq)}).ranges;
  ASSERT_GE(ranges.size(), 2u);
  EXPECT_EQ(ranges.front().where, "the embeddings");
  EXPECT_EQ(ranges.front().largest, LargestOf([&](const std::vector<int64_t>& row) {
              return Must(EmbedTokens(model_->checkpoint, model_->plan, row));
            }));
  EXPECT_EQ(ranges.back().where, "the residual stream leaving model.layers.2");
  EXPECT_EQ(ranges.back().largest, LargestOf([&](const std::vector<int64_t>& row) {
              return model_->Hidden(row, ComputeDType::kF32, IgnoreGroup, serial_);
            }));
  EXPECT_GT(ranges.back().largest, 1000);
  for (size_t i = 1; i < ranges.size(); ++i) {
    EXPECT_GT(ranges[i].largest, ranges[i - 1].largest) << i;
  }
}

// Here the input of down_proj is larger than what leaves the block.
TEST_F(CalibrationRangeTest, LooksAtWhatLinearsRead) {
  Multiply("model.layers.2.mlp.up_proj.weight", 0x1p12f);
  Multiply("model.layers.2.mlp.down_proj.weight", 0x1p-12f);
  const std::vector<ActivationRange> ranges = Quantize({Stored(kAwq)}).ranges;
  float largest = 0;
  for (const std::vector<int64_t>& row : Rows()) {
    const auto observe = [&](size_t group, const Activations& input) {
      if (group != testing::llama::kDownGroup) return absl::OkStatus();
      const auto* values = reinterpret_cast<const float*>(input.data());
      for (int64_t i = 0; i < input.tokens() * 96; ++i) {
        largest = std::max(largest, std::abs(values[i]));
      }
      return absl::OkStatus();
    };
    model_->Hidden(row, ComputeDType::kF32, observe, serial_);
  }
  EXPECT_EQ(ranges.back().where, "the input of model.layers.2.mlp.down_proj");
  EXPECT_EQ(ranges.back().largest, largest);
}

// The largest is in a block that the second run does not run.
TEST_F(CalibrationRangeTest, AnInterruptedRunKnowsHowFarTheyReachedBefore) {
  Multiply("model.layers.0.mlp.up_proj.weight", 0x1p12f);
  Multiply("model.layers.0.mlp.down_proj.weight", 0x1p-12f);
  const ActivationRange whole = Quantize({Stored(kAwq)}).ranges.back();
  EXPECT_EQ(whole.where, "the input of model.layers.0.mlp.down_proj");
  params_.work_directory = Directory("interrupted");
  Results first(/*fail_at=*/2);
  EXPECT_FALSE(TryQuantize({Stored(kAwq)}, first, serial_).ok());
  Results second;
  ASSERT_TRUE(TryQuantize({Stored(kAwq)}, second, serial_).ok());
  ASSERT_EQ(second.blocks, std::vector<int64_t>{2});
  ASSERT_EQ(second.ranges.size(), 1u);
  EXPECT_EQ(second.ranges[0].where, whole.where);
  EXPECT_EQ(second.ranges[0].largest, whole.largest);
}

TEST_F(CalibrationRangeTest, TensorsOfZerosAreTold) {
  EXPECT_THAT(Quantize({Stored(kAwq)}).zero, IsEmpty());
  Multiply("model.layers.1.post_attention_layernorm.weight", 0);
  Multiply("model.layers.1.self_attn.k_proj.weight", 0);
  EXPECT_THAT(Quantize({Stored(kAwq)}).zero,
              ElementsAre("model.layers.1.post_attention_layernorm.weight",
                          "model.layers.1.self_attn.k_proj.weight"));
}

}  // namespace
}  // namespace salient
