#include "core/model/block_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/config/model/model_config.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/families/family.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/half.h"
#include "tests/core/model/llama_places.h"
#include "tests/core/model/small_model.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::Must;
using testing::SmallModel;
using testing::TestsDirectory;

// Shows the tensors of a model, some of them replaced or gone.
class Altered final : public TensorSource {
 public:
  explicit Altered(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void Remove(const std::string& tensor) { entries_[tensor] = {}; }
  void Describe(const std::string& tensor, DType dtype, std::vector<int64_t> shape) {
    TensorEntry entry = *Must(checkpoint_.Find(tensor)).entry;
    entry.dtype = dtype;
    entry.shape = std::move(shape);
    entries_[tensor] = entry;
  }
  // Sets one element of an F16 tensor.
  void Put(const std::string& tensor, int64_t element, float value) {
    poisoned_ = tensor;
    position_ = element * 2;
    bits_ = F32ToF16(value);
  }

  const std::string& name() const override { return checkpoint_.name(); }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    auto found = checkpoint_.Find(tensor);
    const auto altered = entries_.find(std::string(tensor));
    if (!found.ok() || altered == entries_.end()) return found;
    if (altered->second.name.empty()) return absl::NotFoundError("gone");
    found->entry = &altered->second;
    return found;
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    absl::Status status = checkpoint_.ReadRange(tensor, offset, bytes);
    const int64_t at = position_ - offset;
    if (tensor == poisoned_ && at >= 0 && at < static_cast<int64_t>(bytes.size())) {
      std::memcpy(bytes.data() + at, &bits_, 2);
    }
    return status;
  }

 private:
  const Checkpoint& checkpoint_;
  std::map<std::string, TensorEntry> entries_;
  std::string poisoned_;
  int64_t position_ = 0;
  uint16_t bits_ = 0;
};

constexpr char kUp[] = "model.layers.1.mlp.up_proj.weight";  // It is [44, 32] F16.
constexpr char kNorm[] = "model.layers.1.input_layernorm.weight";
constexpr char kBias[] = "model.layers.1.self_attn.k_proj.bias";

class BlockWeightsTest : public ::testing::Test {
 protected:
  BlockWeightsTest()
      : model_(TestsDirectory() + "golden/forward/qkv_bias"), source_(model_.checkpoint) {}

  std::string ReadError() {
    const auto block = ReadBlock(source_, model_.plan, 1, executor_);
    EXPECT_EQ(block.status().code(), absl::StatusCode::kInvalidArgument) << block.status();
    return std::string(block.status().message());
  }

  SmallModel model_;
  Altered source_;
  SerialExecutor executor_;
};

TEST_F(BlockWeightsTest, HoldsTensorsAsTheyWereStored) {
  const BlockWeights block = Must(ReadBlock(source_, model_.plan, 1, executor_));
  EXPECT_EQ(block.layer, 1);
  const StoredLinear& up = block.linears[testing::llama::kUp];
  EXPECT_EQ(up.name, "model.layers.1.mlp.up_proj");
  EXPECT_EQ(up.dtype, DType::kF16);
  EXPECT_EQ(up.weight, Must(model_.checkpoint.Read(kUp)));
  EXPECT_TRUE(up.bias.values.empty());
  const StoredVector& bias = block.linears[testing::llama::kKey].bias;
  EXPECT_EQ(bias.name, kBias);
  EXPECT_EQ(bias.dtype, DType::kF16);
  ASSERT_EQ(bias.values.size(), 16u);
  uint16_t bits = 0;
  std::memcpy(&bits, Must(model_.checkpoint.Read(kBias)).data() + 6, 2);
  EXPECT_EQ(bias.values[3], F16ToF32(bits));
  EXPECT_EQ(block.vectors[testing::llama::kInputNorm].values.size(), 32u);
}

TEST_F(BlockWeightsTest, AMissingTensorIsNamedWithItsShape) {
  source_.Remove(kBias);
  const std::string error = ReadError();
  EXPECT_THAT(error, HasSubstr("tensor \"model.layers.1.self_attn.k_proj.bias\" is missing; "
                               "expected [16] from "));
  EXPECT_THAT(error, HasSubstr("config.json"));
}

TEST_F(BlockWeightsTest, AnotherShapeIsNamedBesideTheExpectedOne) {
  source_.Describe(kUp, DType::kF16, {32, 44});
  EXPECT_THAT(ReadError(), HasSubstr("model.safetensors: tensor \"model.layers.1.mlp.up_proj."
                                     "weight\": shape is [32, 44]; expected [44, 32] from "));
}

TEST_F(BlockWeightsTest, AnotherDTypeIsNamed) {
  source_.Describe(kNorm, DType::kI16, {32});
  EXPECT_THAT(ReadError(), HasSubstr("dtype is I16; expected F32, F16 or BF16"));
}

TEST_F(BlockWeightsTest, ANaNIsNamedByTensorRowAndColumn) {
  source_.Put(kUp, 5 * 32 + 7, std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(ReadError(), HasSubstr("model.layers.1.mlp.up_proj.weight: element [5, 7] is nan"));
  source_.Put(kNorm, 3, std::numeric_limits<float>::infinity());
  EXPECT_THAT(ReadError(), HasSubstr("model.layers.1.input_layernorm.weight: element [0, 3]"));
}

TEST_F(BlockWeightsTest, TheWholeModelIsJudgedByItsHeaders) {
  EXPECT_TRUE(CheckModelTensors(source_, model_.plan).ok());
  for (const char* tensor : {kUp, kNorm, "model.embed_tokens.weight", "model.norm.weight"}) {
    Altered source(model_.checkpoint);
    source.Remove(tensor);
    const absl::Status status = CheckModelTensors(source, model_.plan);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(tensor));
  }
  ModelConfig deeper = model_.config;
  deeper.num_hidden_layers = 3;
  EXPECT_THAT(std::string(CheckModelTensors(source_, *PlanModel(deeper)).message()),
              HasSubstr("model.layers.2."));
}

TEST_F(BlockWeightsTest, ATokenOutsideTheVocabularyIsNamed) {
  for (const int64_t id : {int64_t{-1}, int64_t{40}, int64_t{1} << 60}) {
    const auto hidden = EmbedTokens(source_, model_.plan, {0, 39, id});
    EXPECT_EQ(hidden.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(hidden.status().message()),
                HasSubstr("token at position 2 is " + std::to_string(id) + "; expected 0 to 39"));
  }
}

TEST_F(BlockWeightsTest, ANaNInTheEmbeddingsCountsWhereItIsUsed) {
  source_.Put("model.embed_tokens.weight", 6 * 32 + 1, std::nanf(""));
  EXPECT_TRUE(EmbedTokens(source_, model_.plan, {5, 7}).ok());
  EXPECT_THAT(std::string(EmbedTokens(source_, model_.plan, {6}).status().message()),
              HasSubstr("model.embed_tokens.weight: element [6, 1] is nan"));
  const OutputHead head = Must(OutputHead::Open(source_, model_.plan));
  EXPECT_THAT(std::string(head.Read(0, executor_).status().message()),
              HasSubstr("model.embed_tokens.weight: element [6, 1] is nan"));
}

}  // namespace
}  // namespace salient
