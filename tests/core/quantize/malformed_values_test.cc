// Tests every way in which the values of a model, its calibration or the format that is asked for
// can be wrong.
#include <cmath>

#include "tests/core/quantize/malformed_model.h"

namespace salient {
namespace {

using testing::Found;
using testing::kInvalid;
using testing::MalformedCase;
using testing::MalformedModelTest;
using testing::SpoiltModel;

constexpr char kValue[] = "model.layers.1.self_attn.v_proj.weight";
constexpr char kNorm[] = "model.layers.1.post_attention_layernorm.weight";

const MalformedCase kValueCases[] = {
    {"NaNInAWeight",
     false,
     [](SpoiltModel& model) { model.Put(kValue, 5 * 64 + 7, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.layers.1.self_attn.v_proj.weight: element [5, 7] is nan; "
      "expected a finite"},
     Found::kOnTheWay},
    {"NaNInANorm",
     false,
     [](SpoiltModel& model) { model.Put(kNorm, 9, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.layers.1.post_attention_layernorm.weight: element [0, 9] is "
      "nan; expected a finite"},
     Found::kOnTheWay},
    {"InfinityInABias",
     false,
     [](SpoiltModel& model) { model.Put("model.layers.0.self_attn.q_proj.bias", 0, INFINITY); },
     kInvalid,
     {"model/model.safetensors: model.layers.0.self_attn.q_proj.bias: element [0, 0] is inf; "
      "expected a finite"},
     Found::kOnTheWay},
    {"NaNInAnEmbeddingThatIsUsed",
     false,
     [](SpoiltModel& model) { model.Put("model.embed_tokens.weight", 95 * 64 + 1, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.embed_tokens.weight: element [95, 1] is nan"},
     Found::kBeforeAnyWork},
    {"NaNInAnEmbeddingThatIsNotUsed",
     false,
     [](SpoiltModel& model) { model.Put("model.embed_tokens.weight", 94 * 64 + 1, std::nanf("")); },
     kInvalid,
     {"model/model.safetensors: model.embed_tokens.weight: element [94, 1] is nan"},
     Found::kOnTheWay},
    // A tensor that came in F32 is written in F16.
    {"ANormBeyondF16",
     false,
     [](SpoiltModel& model) { model.PutWide(kNorm, 9, 0x1p17f); },
     kInvalid,
     {"model.layers.1.post_attention_layernorm.weight: element [0, 9] is 131072; expected a value "
      "that F16 can hold"},
     Found::kOnTheWay},
    {"ABiasBeyondF16",
     false,
     [](SpoiltModel& model) { model.PutWide("model.layers.0.self_attn.o_proj.bias", 3, -0x1p17f); },
     kInvalid,
     {"model.layers.0.self_attn.o_proj.bias: element [0, 3] is -131072; expected a value that "
      "F16"},
     Found::kOnTheWay},
    {"AKeptWeightBeyondF16",
     false,
     [](SpoiltModel& model) {
       model.PutWide("model.layers.0.mlp.down_proj.weight", 172 + 2, 0x1p17f);
     },
     kInvalid,
     {"model.layers.0.mlp.down_proj.weight: element [1, 2] is 131072; expected a value that F16"},
     Found::kOnTheWay},
    {"AHeadBeyondF16",
     false,
     [](SpoiltModel& model) { model.PutWide("lm_head.weight", 64 + 2, 0x1p17f); },
     kInvalid,
     {"model/model.safetensors: lm_head.weight: element [1, 2] is 131072; expected a value that "
      "F16 can hold"},
     Found::kOnTheWay},
    // These are about calibration and format.
    {"AnIdBeyondTheVocabulary",
     false,
     [](SpoiltModel& model) {
       model.calibration = {{1, 2}, {3, 96}};
     },
     kInvalid,
     {"calibration row 1: token at position 1 is 96; expected 0 to 95, the vocabulary of ",
      "config.json"},
     Found::kBeforeAnyWork},
    {"ANegativeId",
     false,
     [](SpoiltModel& model) {
       model.calibration = {{1, -2}};
     },
     kInvalid,
     {"calibration row 0: token at position 1 is -2; expected 0 to 95"},
     Found::kBeforeAnyWork},
    {"NoCalibration",
     false,
     [](SpoiltModel& model) { model.calibration.clear(); },
     kInvalid,
     {"calibration has 0 rows; expected at least 1"},
     Found::kBeforeAnyWork},
    {"EveryLinearWouldBeKept",
     false,
     [](SpoiltModel& model) { model.params.stored.format.group_size = 128; },
     kInvalid,
     {"config.json: nothing to quantize; self_attn.q_proj: group_size is 128; expected a divisor "
      "of "
      "in_features, which is 64"},
     Found::kBeforeAnyWork},
    {"OneLinearWouldBeKeptAndThatIsAnError",
     false,
     [](SpoiltModel& model) { model.params.strict = true; },
     kInvalid,
     {"config.json: mlp.gate_proj: out_features is 172; expected a multiple of 8"},
     Found::kBeforeAnyWork},
    {"AWidthThatTheFormatLacks",
     false,
     [](SpoiltModel& model) { model.params.stored.format.bits = 3; },
     kInvalid,
     {"bits is 3; expected 4, the only width of awq-gemm"},
     Found::kBeforeAnyWork},
};

INSTANTIATE_TEST_SUITE_P(Values, MalformedModelTest, ::testing::ValuesIn(kValueCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace salient
