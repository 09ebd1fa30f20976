// Every way in which a model directory or its calibration can be wrong, from opening the directory
// to the last tensor: a typed error that names file, tensor or field, value and what was expected;
// and nothing emitted where all could be judged before any work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/linalg/gemm.h"
#include "core/quantize_model.h"
#include "core/quantized_checkpoint.h"
#include "core/tensor/half.h"
#include "tests/support/random_model.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kConfig[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 172, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"vocab_size\": 96, \"rms_norm_eps\": 1e-5, \"attention_bias\": true, "
    "\"torch_dtype\": \"bfloat16\"}";

// A model of two blocks in one file, or in several, to be spoilt before it is quantized. Group
// size 32: gate, up and down stay F16, because their 172 outputs and inputs do not fit.
class Model {
 public:
  Model(fs::path directory, bool sharded) : directory_(std::move(directory)) {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    testing::WriteRandomModel(directory_, kConfig, DType::kBF16, 3,
                              sharded ? 40'000 : kDefaultMaxShardBytes);
  }

  void ReplaceInFile(const std::string& file, const std::string& from, const std::string& to) {
    std::ifstream in(directory_ / file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::string changed = absl::StrReplaceAll(text, {{from, to}});
    ASSERT_NE(text, changed) << from;
    std::ofstream(directory_ / file, std::ios::binary) << changed;
  }
  void Config(const std::string& from, const std::string& to) {
    ReplaceInFile("config.json", from, to);
  }

  // Writes model.safetensors anew, each tensor altered or, where `change` says false, left out.
  void Tensors(const std::function<bool(NamedTensor&)>& change) {
    const Checkpoint checkpoint = *Checkpoint::Open(directory_.string());
    std::vector<NamedTensor> tensors;
    for (const std::string& name : checkpoint.TensorNames()) {
      const TensorEntry& entry = *checkpoint.Find(name)->entry;
      NamedTensor tensor{name, entry.dtype, entry.shape, *checkpoint.Read(name)};
      if (change(tensor)) tensors.push_back(std::move(tensor));
    }
    ASSERT_TRUE(
        WriteSafetensors((directory_ / "model.safetensors").string(), ToWrite(tensors), {}).ok());
  }
  void Tensor(const std::string& name, const std::function<void(NamedTensor&)>& change) {
    Tensors([&](NamedTensor& tensor) {
      if (tensor.name == name) change(tensor);
      return true;
    });
  }
  void Put(const std::string& name, int64_t element, float value) {
    Tensor(name, [&](NamedTensor& tensor) {
      const uint16_t bits = F32ToBF16(value);
      std::memcpy(tensor.data.data() + 2 * element, &bits, 2);
    });
  }

  const fs::path& directory() const { return directory_; }
  std::vector<std::vector<int64_t>> calibration = {{1, 2, 3, 4, 5, 95}, {7, 8}};
  QuantizedCheckpointParams params{{4, 32, false, DType::kF16}};

 private:
  fs::path directory_;
};

class Counter final : public QuantizedModelSink {
 public:
  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> /*tensors*/) override {
    ++blocks;
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& /*report*/) override {
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& /*module*/,
                    const std::string& /*why*/) override {
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t count) override {
    tokens += count;
    return absl::OkStatus();
  }
  int blocks = 0;
  int64_t tokens = 0;
};

// What a job does with a directory, one step after the other.
absl::Status RunJob(const Model& model, const fs::path& work, QuantizedModelSink& sink) {
  const std::string path = (model.directory() / kConfigName).string();
  const auto text = ReadTextFile(path, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  const auto config = ParseModelConfig(path, *text);
  if (!config.ok()) return config.status();
  const auto plan = PlanQuantizedCheckpoint(*config, *text, model.params);
  if (!plan.ok()) return plan.status();
  const auto checkpoint = Checkpoint::Open(model.directory().string());
  if (!checkpoint.ok()) return checkpoint.status();
  QuantizeModelParams params;
  params.method = {ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
  params.outputs[0].format = model.params.stored.format;
  params.compute = ComputeDType::kF32;
  params.work_directory = work.string();
  SerialExecutor executor;
  absl::Status status =
      QuantizeModel(*checkpoint, *config, model.calibration, params, sink, executor);
  if (!status.ok()) return status;
  return CopyOuterTensors(
      *checkpoint, *config,
      [](const TensorShape&, int64_t, absl::Span<const std::byte>) { return absl::OkStatus(); });
}

enum class Found { kBeforeAnyWork, kOnTheWay };

struct Case {
  std::string name;
  bool sharded;
  std::function<void(Model&)> spoil;
  absl::StatusCode code;
  std::vector<std::string> names;  // what the error must say
  Found found;
};

void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

class MalformedModelTest : public ::testing::TestWithParam<Case> {
 protected:
  MalformedModelTest() {
    LimitThreadToItself();
    root_ = fs::path(::testing::TempDir()) / ("malformed_model." + GetParam().name);
    fs::remove_all(root_);
    fs::create_directories(root_ / "work");
  }
  ~MalformedModelTest() override { fs::remove_all(root_); }
  fs::path root_;
};

TEST_P(MalformedModelTest, IsATypedErrorThatNamesTheFault) {
  const Case& test = GetParam();
  Model model(root_ / "model", test.sharded);
  Counter before;
  const absl::Status good = RunJob(model, root_ / "work", before);
  ASSERT_TRUE(good.ok()) << "before it was spoilt: " << good;
  ASSERT_EQ(before.blocks, 2);
  for (const fs::directory_entry& file : fs::directory_iterator(root_ / "work")) fs::remove(file);

  test.spoil(model);
  Counter after;
  const absl::Status status = RunJob(model, root_ / "work", after);
  EXPECT_EQ(status.code(), test.code) << status;
  for (const std::string& name : test.names) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
  EXPECT_LT(status.message().size(), 1000u);
  if (test.found == Found::kBeforeAnyWork) {
    EXPECT_EQ(after.tokens, 0);
    EXPECT_EQ(after.blocks, 0);
    EXPECT_TRUE(fs::is_empty(root_ / "work"));
  }
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr char kValue[] = "model.layers.1.self_attn.v_proj.weight";
constexpr char kNorm[] = "model.layers.1.post_attention_layernorm.weight";

const Case kCases[] = {
    // config.json
    {"ConfigIsMissing",
     false,
     [](Model& model) { fs::remove(model.directory() / "config.json"); },
     absl::StatusCode::kNotFound,
     {"model/config.json"},
     Found::kBeforeAnyWork},
    {"ConfigIsNoJson",
     false,
     [](Model& model) { model.Config("{", "{,"); },
     kInvalid,
     {"model/config.json", "not valid JSON"},
     Found::kBeforeAnyWork},
    {"ConfigLacksAField",
     false,
     [](Model& model) { model.Config("\"num_hidden_layers\": 2, ", ""); },
     kInvalid,
     {"model/config.json: num_hidden_layers is missing; expected an integer from 1 to"},
     Found::kBeforeAnyWork},
    {"ConfigFieldIsOutOfRange",
     false,
     [](Model& model) { model.Config("\"hidden_size\": 64", "\"hidden_size\": -64"); },
     kInvalid,
     {"model/config.json: hidden_size is -64; expected an integer from 1 to"},
     Found::kBeforeAnyWork},
    {"UnknownArchitecture",
     false,
     [](Model& model) { model.Config("LlamaForCausalLM", "GPT2LMHeadModel"); },
     absl::StatusCode::kUnimplemented,
     {"model/config.json: architectures[0] is \"GPT2LMHeadModel\"; expected one of Llama"},
     Found::kBeforeAnyWork},
    {"IsQuantizedAlready",
     false,
     [](Model& model) {
       model.Config("{\"arch", "{\"quantization_config\": {\"quant_method\": \"awq\"}, \"arch");
     },
     kInvalid,
     {"model/config.json: quantization_config.quant_method is \"awq\"; expected no quant"},
     Found::kBeforeAnyWork},
    {"MoreBlocksThanTheFileHas",
     false,
     [](Model& model) { model.Config("layers\": 2", "layers\": 3"); },
     kInvalid,
     {"tensor \"model.layers.2.", "is missing; expected [", "config.json"},
     Found::kBeforeAnyWork},
    {"OtherWidthThanTheFileHas",
     false,
     [](Model& model) { model.Config("vocab_size\": 96", "vocab_size\": 97"); },
     kInvalid,
     {"model.safetensors: tensor \"model.embed_tokens.weight\": shape is [96, 64]; expected [97, "
      "64] from ",
      "config.json"},
     Found::kBeforeAnyWork},
    // Files and names.
    {"NoWeights",
     false,
     [](Model& model) { fs::remove(model.directory() / "model.safetensors"); },
     absl::StatusCode::kNotFound,
     {"has neither model.safetensors nor"},
     Found::kBeforeAnyWork},
    {"AShardIsMissing",
     true,
     [](Model& model) { fs::remove(model.directory() / "model-00002-of-00007.safetensors"); },
     absl::StatusCode::kNotFound,
     {"model-00002-of-00007.safetensors"},
     Found::kBeforeAnyWork},
    {"AShardIsCutShort",
     true,
     [](Model& model) {
       const fs::path file = model.directory() / "model-00002-of-00007.safetensors";
       fs::resize_file(file, fs::file_size(file) - 1);
     },
     kInvalid,
     {"model-00002-of-00007.safetensors: ", "bytes follow the header; expected"},
     Found::kBeforeAnyWork},
    {"AShardLiesElsewhere",
     true,
     [](Model& model) {
       model.ReplaceInFile(kShardIndexName, "model-00002-of-00007.safetensors",
                           "../../x.safetensors");
     },
     kInvalid,
     {"model.safetensors.index.json: weight_map[\"",
      "file name is \"../../x.safetensors\"; expect"},
     Found::kBeforeAnyWork},
    {"TheIndexNamesATensorThatNoFileHas",
     true,
     [](Model& model) { model.ReplaceInFile(kShardIndexName, "model.norm.weight", "../../x"); },
     kInvalid,
     {"safetensors: tensor \"", "\"../../x\" is missing; expected it here"},
     Found::kBeforeAnyWork},
    {"ATensorHasTheNameOfAPath",
     false,
     [](Model& model) {
       model.Tensor("model.norm.weight", [](NamedTensor& tensor) { tensor.name = "../../x"; });
     },
     kInvalid,
     {"tensor \"model.norm.weight\" is missing; expected [64] from "},
     Found::kBeforeAnyWork},
    // Tensors.
    {"ATensorIsMissing",
     false,
     [](Model& model) { model.Tensors([](NamedTensor& tensor) { return tensor.name != kValue; }); },
     kInvalid,
     {"model: tensor \"model.layers.1.self_attn.v_proj.weight\" is missing; expected [32, 64]"},
     Found::kBeforeAnyWork},
    {"ABiasIsMissing",
     false,
     [](Model& model) {
       model.Tensors([](NamedTensor& tensor) {
         return tensor.name != "model.layers.0.self_attn.o_proj.bias";
       });
     },
     kInvalid,
     {"tensor \"model.layers.0.self_attn.o_proj.bias\" is missing; expected [64]"},
     Found::kBeforeAnyWork},
    {"ATensorHasAnotherShape",
     false,
     [](Model& model) {
       model.Tensor(kValue, [](NamedTensor& tensor) { tensor.shape = {64, 32}; });
     },
     kInvalid,
     {"model.safetensors: tensor \"model.layers.1.self_attn.v_proj.weight\": shape is [64, 32]; "
      "expected [32, 64] from "},
     Found::kBeforeAnyWork},
    {"ATensorHasAnotherDType",
     false,
     [](Model& model) {
       model.Tensor(kValue, [](NamedTensor& tensor) { tensor.dtype = DType::kI16; });
     },
     kInvalid,
     {"model.safetensors: tensor \"model.layers.1.self_attn.v_proj.weight\": dtype is I16; "
      "expected "
      "F32, F16 or BF16"},
     Found::kBeforeAnyWork},
    {"ATensorHasADTypeThatIsNotRead",
     false,
     [](Model& model) {
       // As long as the name it replaces, so that the header stays valid otherwise.
       model.Tensor(kValue, [](NamedTensor& tensor) { tensor.dtype = DType::kU16; });
       model.ReplaceInFile("model.safetensors", "\"U16\"", "\"C64\"");
     },
     kInvalid,
     {"model.safetensors: tensor \"model.layers.1.self_attn.v_proj.weight\": dtype C64"},
     Found::kBeforeAnyWork},
    {"NaNInAWeight",
     false,
     [](Model& model) { model.Put(kValue, 5 * 64 + 7, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.layers.1.self_attn.v_proj.weight: element [5, 7] is nan; "
      "expected a finite"},
     Found::kOnTheWay},
    {"NaNInANorm",
     false,
     [](Model& model) { model.Put(kNorm, 9, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.layers.1.post_attention_layernorm.weight: element [0, 9] is "
      "nan; expected a finite"},
     Found::kOnTheWay},
    {"InfinityInABias",
     false,
     [](Model& model) { model.Put("model.layers.0.self_attn.q_proj.bias", 0, INFINITY); },
     kInvalid,
     {"model/model.safetensors: model.layers.0.self_attn.q_proj.bias: element [0, 0] is inf; "
      "expected a finite"},
     Found::kOnTheWay},
    {"NaNInAnEmbeddingThatIsUsed",
     false,
     [](Model& model) { model.Put("model.embed_tokens.weight", 95 * 64 + 1, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.embed_tokens.weight: element [95, 1] is nan"},
     Found::kBeforeAnyWork},
    {"NaNInAnEmbeddingThatIsNotUsed",
     false,
     [](Model& model) { model.Put("model.embed_tokens.weight", 94 * 64 + 1, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.embed_tokens.weight: element [94, 1] is nan"},
     Found::kOnTheWay},
    // What a BF16 can hold and an F16 cannot.
    {"ANormBeyondF16",
     false,
     [](Model& model) { model.Put(kNorm, 9, 0x1p17f); },
     kInvalid,
     {"model.layers.1.post_attention_layernorm.weight: element [0, 9] is 131072; expected a value "
      "that F16 can hold"},
     Found::kOnTheWay},
    {"ABiasBeyondF16",
     false,
     [](Model& model) { model.Put("model.layers.0.self_attn.o_proj.bias", 3, -0x1p17f); },
     kInvalid,
     {"model.layers.0.self_attn.o_proj.bias: element [0, 3] is -131072; expected a value that "
      "F16"},
     Found::kOnTheWay},
    {"AKeptWeightBeyondF16",
     false,
     [](Model& model) { model.Put("model.layers.0.mlp.down_proj.weight", 172 + 2, 0x1p17f); },
     kInvalid,
     {"model.layers.0.mlp.down_proj.weight: element [1, 2] is 131072; expected a value that F16"},
     Found::kOnTheWay},
    {"AHeadBeyondF16",
     false,
     [](Model& model) { model.Put("lm_head.weight", 64 + 2, 0x1p17f); },
     kInvalid,
     {"model/model.safetensors: lm_head.weight: element [1, 2] is 131072; expected a value that "
      "F16 can hold"},
     Found::kOnTheWay},
    // Calibration and format.
    {"AnIdBeyondTheVocabulary",
     false,
     [](Model& model) {
       model.calibration = {{1, 2}, {3, 96}};
     },
     kInvalid,
     {"calibration row 1: token at position 1 is 96; expected 0 to 95, the vocabulary of ",
      "config.json"},
     Found::kBeforeAnyWork},
    {"ANegativeId",
     false,
     [](Model& model) {
       model.calibration = {{1, -2}};
     },
     kInvalid,
     {"calibration row 0: token at position 1 is -2; expected 0 to 95"},
     Found::kBeforeAnyWork},
    {"NoCalibration",
     false,
     [](Model& model) { model.calibration.clear(); },
     kInvalid,
     {"calibration has 0 rows; expected at least 1"},
     Found::kBeforeAnyWork},
    {"EveryLinearWouldBeKept",
     false,
     [](Model& model) { model.params.stored.format.group_size = 128; },
     kInvalid,
     {"config.json: nothing to quantize; self_attn.q_proj: group_size is 128; expected a divisor "
      "of "
      "in_features, which is 64"},
     Found::kBeforeAnyWork},
    {"OneLinearWouldBeKeptAndThatIsAnError",
     false,
     [](Model& model) { model.params.strict = true; },
     kInvalid,
     {"config.json: mlp.gate_proj: out_features is 172; expected a multiple of 8"},
     Found::kBeforeAnyWork},
    {"AWidthThatTheFormatLacks",
     false,
     [](Model& model) { model.params.stored.format.bits = 3; },
     kInvalid,
     {"bits is 3; expected 4, the only width of awq-gemm"},
     Found::kBeforeAnyWork},
};

INSTANTIATE_TEST_SUITE_P(Faults, MalformedModelTest, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace salient
