// Tests every way in which the files of a model can be wrong: its config, what they are called and
// what their headers say.
#include <filesystem>

#include "core/checkpoint/shard_index.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/quantize/malformed_model.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using testing::Found;
using testing::kInvalid;
using testing::MalformedCase;
using testing::MalformedModelTest;
using testing::SpoiltModel;

TEST_P(MalformedModelTest, IsATypedErrorThatNamesTheFault) { ExpectFault(); }

constexpr char kValueProjection[] = "model.layers.1.self_attn.v_proj.weight";

const MalformedCase kFileCases[] = {
    // These spoil config.json.
    {"ConfigIsMissing",
     false,
     [](SpoiltModel& model) { fs::remove(model.directory() / "config.json"); },
     absl::StatusCode::kNotFound,
     {"model/config.json"},
     Found::kBeforeAnyWork},
    {"ConfigIsNoJson",
     false,
     [](SpoiltModel& model) { model.Config("{", "{,"); },
     kInvalid,
     {"model/config.json", "not valid JSON"},
     Found::kBeforeAnyWork},
    {"ConfigLacksAField",
     false,
     [](SpoiltModel& model) { model.Config("\"num_hidden_layers\": 2, ", ""); },
     kInvalid,
     {"model/config.json: num_hidden_layers is missing; expected an integer from 1 to"},
     Found::kBeforeAnyWork},
    {"ConfigFieldIsOutOfRange",
     false,
     [](SpoiltModel& model) { model.Config("\"hidden_size\": 64", "\"hidden_size\": -64"); },
     kInvalid,
     {"model/config.json: hidden_size is -64; expected an integer from 1 to"},
     Found::kBeforeAnyWork},
    {"UnknownArchitecture",
     false,
     [](SpoiltModel& model) { model.Config("LlamaForCausalLM", "GPT2LMHeadModel"); },
     absl::StatusCode::kUnimplemented,
     {"model/config.json: architectures[0] is \"GPT2LMHeadModel\"; expected one of those that "
      "`salient info --families` lists"},
     Found::kBeforeAnyWork},
    {"IsQuantizedAlready",
     false,
     [](SpoiltModel& model) {
       model.Config("{\"arch", "{\"quantization_config\": {\"quant_method\": \"awq\"}, \"arch");
     },
     kInvalid,
     {"model/config.json: quantization_config.quant_method is \"awq\"; expected no quant"},
     Found::kBeforeAnyWork},
    {"MoreBlocksThanTheFileHas",
     false,
     [](SpoiltModel& model) { model.Config("layers\": 2", "layers\": 3"); },
     kInvalid,
     {"tensor \"model.layers.2.", "is missing; expected [", "config.json"},
     Found::kBeforeAnyWork},
    {"OtherWidthThanTheFileHas",
     false,
     [](SpoiltModel& model) { model.Config("vocab_size\": 96", "vocab_size\": 97"); },
     kInvalid,
     {"model.safetensors: tensor \"model.embed_tokens.weight\": shape is [96, 64]; expected [97, "
      "64] from ",
      "config.json"},
     Found::kBeforeAnyWork},
    // Files and names.
    {"NoWeights",
     false,
     [](SpoiltModel& model) { fs::remove(model.directory() / "model.safetensors"); },
     absl::StatusCode::kNotFound,
     {"has neither model.safetensors nor"},
     Found::kBeforeAnyWork},
    {"AShardIsMissing",
     true,
     [](SpoiltModel& model) { fs::remove(model.directory() / "model-00002-of-00007.safetensors"); },
     absl::StatusCode::kNotFound,
     {"model-00002-of-00007.safetensors"},
     Found::kBeforeAnyWork},
    {"AShardIsCutShort",
     true,
     [](SpoiltModel& model) {
       const fs::path file = model.directory() / "model-00002-of-00007.safetensors";
       fs::resize_file(file, fs::file_size(file) - 1);
     },
     kInvalid,
     {"model-00002-of-00007.safetensors: ", "bytes follow the header; expected"},
     Found::kBeforeAnyWork},
    {"AShardLiesElsewhere",
     true,
     [](SpoiltModel& model) {
       model.ReplaceInFile(kShardIndexName, "model-00002-of-00007.safetensors",
                           "../../x.safetensors");
     },
     kInvalid,
     {"model.safetensors.index.json: weight_map[\"",
      "file name is \"../../x.safetensors\"; expect"},
     Found::kBeforeAnyWork},
    {"TheIndexNamesATensorThatNoFileHas",
     true,
     [](SpoiltModel& model) {
       model.ReplaceInFile(kShardIndexName, "model.norm.weight", "../../x");
     },
     kInvalid,
     {"safetensors: tensor \"", "\"../../x\" is missing; expected it here"},
     Found::kBeforeAnyWork},
    {"ATensorHasTheNameOfAPath",
     false,
     [](SpoiltModel& model) {
       model.Tensor("model.norm.weight", [](NamedTensor& tensor) { tensor.name = "../../x"; });
     },
     kInvalid,
     {"tensor \"model.norm.weight\" is missing; expected [64] from "},
     Found::kBeforeAnyWork},
    // These spoil tensors.
    {"ATensorIsMissing",
     false,
     [](SpoiltModel& model) {
       model.Tensors([](NamedTensor& tensor) { return tensor.name != kValueProjection; });
     },
     kInvalid,
     {"model: tensor \"model.layers.1.self_attn.v_proj.weight\" is missing; expected [32, 64]"},
     Found::kBeforeAnyWork},
    {"ABiasIsMissing",
     false,
     [](SpoiltModel& model) {
       model.Tensors([](NamedTensor& tensor) {
         return tensor.name != "model.layers.0.self_attn.o_proj.bias";
       });
     },
     kInvalid,
     {"tensor \"model.layers.0.self_attn.o_proj.bias\" is missing; expected [64]"},
     Found::kBeforeAnyWork},
    {"ATensorHasAnotherShape",
     false,
     [](SpoiltModel& model) {
       model.Tensor(kValueProjection, [](NamedTensor& tensor) { tensor.shape = {64, 32}; });
     },
     kInvalid,
     {"model.safetensors: tensor \"model.layers.1.self_attn.v_proj.weight\": shape is [64, 32]; "
      "expected [32, 64] from "},
     Found::kBeforeAnyWork},
    {"ATensorHasAnotherDType",
     false,
     [](SpoiltModel& model) {
       model.Tensor(kValueProjection, [](NamedTensor& tensor) { tensor.dtype = DType::kI16; });
     },
     kInvalid,
     {"model.safetensors: tensor \"model.layers.1.self_attn.v_proj.weight\": dtype is I16; "
      "expected "
      "F32, F16 or BF16"},
     Found::kBeforeAnyWork},
    {"ATensorHasADTypeThatIsNotRead",
     false,
     [](SpoiltModel& model) {
       // It is as long as the name it replaces, so that the header stays valid otherwise.
       model.Tensor(kValueProjection, [](NamedTensor& tensor) {
         tensor.data.resize(tensor.data.size() / static_cast<size_t>(SizeOf(tensor.dtype)) * 8);
         tensor.dtype = DType::kU64;
       });
       model.ReplaceInFile("model.safetensors", "\"U64\"", "\"C64\"");
     },
     kInvalid,
     {"model.safetensors: tensor \"model.layers.1.self_attn.v_proj.weight\": dtype C64 is not "
      "read"},
     Found::kBeforeAnyWork},
};

INSTANTIATE_TEST_SUITE_P(Files, MalformedModelTest, ::testing::ValuesIn(kFileCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace salient
