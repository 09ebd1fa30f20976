// Every layout that is read, from tensors made here bit by bit, and what is wrong with others.
// (awq's: quantized_source_test.)
#include "core/source/packed_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"
#include "core/config/quantization_config.h"
#include "core/model/input_roundings.h"
#include "core/source/quantized_source.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/llama_places.h"
#include "tests/core/model/small_model.h"
#include "tests/core/source/packed_tensors.h"
#include "tests/support/altered_source.h"
#include "tests/support/planned_model.h"

namespace salient {
namespace {

using testing::AlteredSource;
using testing::Code;
using ::testing::HasSubstr;
using testing::kIn;
using testing::kModule;
using testing::kOut;
using testing::Make;
using testing::MakeScales;
using testing::MakeWords;
using testing::Must;
using testing::Scale;
using testing::SmallModel;
using ::testing::StartsWith;
using testing::TestsDirectory;
using testing::Zero;

constexpr int64_t kGroup = 64;
constexpr int64_t kGroups = kIn / kGroup;

std::string Tensor(const std::string& suffix) { return absl::StrCat(kModule, ".", suffix); }

QuantizationConfig Config(const std::string& json) {
  return Must(ParseQuantizationConfig("config", Must(ParseJson("config", json))));
}

class PackedLinearTest : public ::testing::Test {
 protected:
  PackedLinearTest()
      : model_(TestsDirectory() + "data/pocket-llama"),
        config_(model_.config),
        packed_(model_.checkpoint) {
    packed_.Remove(Tensor("weight"));
  }

  static std::string Gptq(int bits, const char* more = "") {
    return absl::StrCat("{\"quant_method\":\"gptq\",\"bits\":", bits, ",\"group_size\":", kGroup,
                        more, "}");
  }

  // Input k is of group(k).
  void PackGptq(int bits, int stored_zero_less, DType scales) {
    packed_.Put(MakeWords(Tensor("qweight"), kOut, kIn, bits, true,
                          [=](int64_t n, int64_t k) { return Code(n, k, bits); }));
    packed_.Put(MakeWords(Tensor("qzeros"), kGroups, kOut, bits, false, [=](int64_t g, int64_t n) {
      return Zero(n, g, bits) - stored_zero_less;
    }));
    packed_.Put(MakeScales(Tensor("scales"), scales, kGroups, kOut,
                           [](int64_t g, int64_t n) { return Scale(n, g); }));
  }

  void PutGroupIndex(const std::string& suffix, const std::function<int64_t(int64_t)>& group) {
    std::vector<int32_t> index;
    for (int64_t k = 0; k < kIn; ++k) index.push_back(static_cast<int32_t>(group(k)));
    packed_.Put(Make(Tensor(suffix), DType::kI32, {kIn}, index));
  }

  static std::string Compressed(int bits, bool symmetric, const std::string& input = "null") {
    return absl::StrCat(
        R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"a":{
            "targets":["Linear"],"input_activations":)",
        input, ",\"weights\":{\"num_bits\":", bits, ",\"group_size\":", kGroup,
        ",\"symmetric\":", symmetric ? "true" : "false", "}}}}");
  }

  void PackCompressed(int bits, bool symmetric, DType scales) {
    packed_.Put(MakeWords(Tensor("weight_packed"), kOut, kIn, bits, false,
                          [=](int64_t n, int64_t k) { return Code(n, k, bits); }));
    packed_.Put(MakeScales(Tensor("weight_scale"), scales, kOut, kGroups, Scale));
    packed_.Put(Make(Tensor("weight_shape"), DType::kI64, {2}, std::vector<int64_t>{kOut, kIn}));
    if (symmetric) {
      packed_.Remove(Tensor("weight_zero_point"));
    } else {
      packed_.Put(MakeWords(Tensor("weight_zero_point"), kGroups, kOut, bits, true,
                            [=](int64_t g, int64_t n) { return Zero(n, g, bits); }));
    }
  }

  static std::string IntQuantized(const char* strategy, const char* input) {
    return absl::StrCat(
        R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{"a":{
            "targets":["Linear"],"weights":{"strategy":")",
        strategy, "\"},\"input_activations\":", input, "}}}");
  }

  void PackIntQuantized(bool whole_tensor, DType scales) {
    std::vector<int8_t> codes;
    for (int64_t i = 0; i < kOut * kIn; ++i) {
      codes.push_back(static_cast<int8_t>(Code(i / kIn, i % kIn, 8) - 128));
    }
    packed_.Put(Make(Tensor("weight"), DType::kI8, {kOut, kIn}, codes));
    NamedTensor scale = MakeScales(Tensor("weight_scale"), scales, whole_tensor ? 1 : kOut, 1,
                                   [](int64_t n, int64_t /*g*/) { return Scale(n, 0); });
    if (whole_tensor) scale.shape = {1};
    packed_.Put(std::move(scale));
  }

  // Expects that the weight that `json` as quantization_config shows is what `value` says.
  void ExpectWeight(const std::string& json,
                    const std::function<float(int64_t n, int64_t k)>& value) {
    config_.quantization = Config(json);
    ASSERT_TRUE(config_.quantization->readable.ok()) << config_.quantization->readable;
    const auto source = Must(OpenQuantizedSource(packed_, testing::Planned(config_)));
    const TensorLocation found = Must(source->Find(Tensor("weight")));
    EXPECT_EQ(found.entry->dtype, DType::kF32);
    EXPECT_EQ(found.entry->shape, (std::vector<int64_t>{kOut, kIn}));
    std::vector<float> values(kOut * kIn);
    const auto bytes = absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), kOut * kIn * 4);
    const absl::Status status = source->ReadRange(Tensor("weight"), 0, bytes);
    ASSERT_TRUE(status.ok()) << status;
    for (int64_t n = 0; n < kOut; ++n) {
      for (int64_t k = 0; k < kIn; ++k) {
        ASSERT_EQ(values[n * kIn + k], value(n, k)) << n << ", " << k << " under " << json;
      }
    }
    // Any range is that of the whole.
    std::vector<float> part(3 * kIn);
    const auto some = absl::MakeSpan(reinterpret_cast<std::byte*>(part.data()), 3 * kIn * 4 - 6);
    ASSERT_TRUE(source->ReadRange(Tensor("weight"), 70 * kIn * 4 + 6, some).ok());
    EXPECT_EQ(std::memcmp(part.data(), bytes.data() + 70 * kIn * 4 + 6, some.size()), 0);
  }

  // Returns why the module cannot be found under `json`.
  std::string FindError(const std::string& json) {
    config_.quantization = Config(json);
    const absl::Status status = Must(OpenQuantizedSource(packed_, testing::Planned(config_)))
                                    ->Find(Tensor("weight"))
                                    .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  std::string ReadError(const std::string& json) {
    config_.quantization = Config(json);
    std::vector<std::byte> bytes(kIn * 4);
    const absl::Status status = Must(OpenQuantizedSource(packed_, testing::Planned(config_)))
                                    ->ReadRange(Tensor("weight"), 0, absl::MakeSpan(bytes));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  SmallModel model_;
  ModelConfig config_;
  AlteredSource packed_;
};

float Value(int64_t n, int64_t k, int64_t g, int bits) {
  return Scale(n, g) * static_cast<float>(Code(n, k, bits) - Zero(n, g, bits));
}

TEST_F(PackedLinearTest, GptqAsItsLayoutDescribes) {
  for (const int bits : {3, 4, 8}) {
    for (const bool v2 : {false, true}) {
      for (const DType scales : {DType::kF16, DType::kBF16, DType::kF32}) {
        PackGptq(bits, v2 ? 0 : 1, scales);
        const std::string json = Gptq(bits, v2 ? ",\"checkpoint_format\":\"gptq_v2\"" : "");
        const auto value = [=](int64_t n, int64_t k) { return Value(n, k, k / kGroup, bits); };
        packed_.Remove(Tensor("g_idx"));
        ExpectWeight(json, value);
        PutGroupIndex("g_idx", [](int64_t k) { return k / kGroup; });
        ExpectWeight(json, value);
      }
    }
  }
}

TEST_F(PackedLinearTest, GptqsGroupIndexSaysWhichColumnsAreOfAGroup) {
  PackGptq(4, 1, DType::kF16);
  const auto group = [](int64_t k) { return (k * 11) % kGroups; };
  PutGroupIndex("g_idx", group);
  ExpectWeight(Gptq(4, ",\"desc_act\":true"),
               [&](int64_t n, int64_t k) { return Value(n, k, group(k), 4); });
  PutGroupIndex("g_idx", [](int64_t k) { return k == 77 ? kGroups : 0; });
  EXPECT_THAT(ReadError(Gptq(4)),
              HasSubstr("altered: tensor \"" + Tensor("g_idx") + "\": element 77 is 4"));
  PutGroupIndex("g_idx", [](int64_t k) { return k == 5 ? -1 : 0; });
  EXPECT_THAT(ReadError(Gptq(4)), HasSubstr("element 5 is -1"));
  packed_.Put(Make(Tensor("g_idx"), DType::kI32, {kIn - 1}, std::vector<int32_t>(kIn - 1)));
  EXPECT_THAT(FindError(Gptq(4)), HasSubstr("g_idx\": shape is [255]"));
  packed_.Put(Make(Tensor("g_idx"), DType::kI64, {kIn}, std::vector<int64_t>(kIn)));
  EXPECT_THAT(FindError(Gptq(4)), HasSubstr("g_idx\": dtype is I64"));
  packed_.Remove(Tensor("g_idx"));
  EXPECT_THAT(FindError(Gptq(4, ",\"desc_act\":true")),
              HasSubstr("tensor \"" + Tensor("g_idx") + "\" is missing; expected it beside \"" +
                        Tensor("qweight") + "\""));
}

TEST_F(PackedLinearTest, CompressedTensorsAsTheirLayoutDescribes) {
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {false, true}) {
      for (const DType scales : {DType::kF16, DType::kBF16, DType::kF32}) {
        PackCompressed(bits, symmetric, scales);
        ExpectWeight(Compressed(bits, symmetric), [=](int64_t n, int64_t k) {
          const int64_t g = k / kGroup;
          const int zero = symmetric ? 1 << (bits - 1) : Zero(n, g, bits);
          return Scale(n, g) * static_cast<float>(Code(n, k, bits) - zero);
        });
      }
    }
  }
  PackCompressed(4, true, DType::kF16);
  const auto group = [](int64_t k) { return (k * 7) % kGroups; };
  PutGroupIndex("weight_g_idx", group);
  ExpectWeight(Compressed(4, true), [&](int64_t n, int64_t k) {
    return Scale(n, group(k)) * static_cast<float>(Code(n, k, 4) - 8);
  });
  PutGroupIndex("weight_g_idx", [](int64_t) { return kGroups; });
  EXPECT_THAT(ReadError(Compressed(4, true)), HasSubstr("weight_g_idx\": element 0 is 4"));
}

TEST_F(PackedLinearTest, IntQuantizedAsItsLayoutDescribes) {
  for (const DType scales : {DType::kF16, DType::kBF16, DType::kF32}) {
    for (const bool whole : {false, true}) {
      PackIntQuantized(whole, scales);
      ExpectWeight(IntQuantized(whole ? "tensor" : "channel", "null"), [=](int64_t n, int64_t k) {
        return Scale(whole ? 0 : n, 0) * static_cast<float>(Code(n, k, 8) - 128);
      });
    }
  }
}

TEST_F(PackedLinearTest, AHalfPresentSetNamesWhatIsMissing) {
  const auto missing = [](const char* suffix) {
    return absl::StrCat("altered: tensor \"", Tensor(suffix), "\" is missing; expected it beside");
  };
  PackGptq(4, 1, DType::kF16);
  for (const char* suffix : {"scales", "qzeros", "qweight"}) {
    PackGptq(4, 1, DType::kF16);
    packed_.Remove(Tensor(suffix));
    EXPECT_THAT(FindError(Gptq(4)), HasSubstr(missing(suffix)));
  }
  for (const char* suffix : {"weight_scale", "weight_packed", "weight_zero_point"}) {
    PackCompressed(4, false, DType::kF16);
    packed_.Remove(Tensor(suffix));
    EXPECT_THAT(FindError(Compressed(4, false)), HasSubstr(missing(suffix)));
  }
  packed_.Remove(Tensor("weight_packed"));
  PackIntQuantized(false, DType::kF32);
  packed_.Remove(Tensor("weight"));
  EXPECT_THAT(FindError(IntQuantized("channel", "null")), HasSubstr(missing("weight")));
  PackIntQuantized(false, DType::kF32);
  packed_.Remove(Tensor("weight_scale"));
  EXPECT_THAT(FindError(IntQuantized("channel", "null")), HasSubstr(missing("weight_scale")));
}

TEST_F(PackedLinearTest, TensorsThatDoNotFitAreNamed) {
  PackGptq(8, 1, DType::kF16);
  EXPECT_THAT(FindError(Gptq(4)), HasSubstr("qweight\": shape is [64, 128]; expected [32, 128]"));
  PackGptq(4, 1, DType::kF16);
  EXPECT_THAT(FindError(Gptq(4, ",\"dynamic\":{\".*k_proj\":{\"group_size\":32}}")),
              HasSubstr("shape is [4, "));
  packed_.Put(
      Make(Tensor("qweight"), DType::kU32, {kIn / 8, kOut}, std::vector<uint32_t>(kIn / 8 * kOut)));
  EXPECT_THAT(FindError(Gptq(4)), HasSubstr("qweight\": dtype is U32; expected I32"));
  for (const char* suffix : {"qweight", "qzeros", "scales"}) packed_.Remove(Tensor(suffix));

  PackCompressed(4, false, DType::kF16);
  EXPECT_THAT(FindError(Compressed(8, false)), HasSubstr("weight_packed\": shape is [128, 32]"));
  packed_.Put(MakeScales(Tensor("weight_scale"), DType::kF16, kOut, 2, Scale));
  EXPECT_THAT(FindError(Compressed(4, false)),
              HasSubstr("weight_scale\": shape is [128, 2]; expected [128, 4]"));
  for (const char* suffix : {"weight_packed", "weight_zero_point"}) packed_.Remove(Tensor(suffix));

  PackIntQuantized(false, DType::kF32);
  packed_.Put(Make(Tensor("weight"), DType::kI8, {kIn, kOut}, std::vector<int8_t>(kIn * kOut)));
  EXPECT_THAT(FindError(IntQuantized("channel", "null")),
              HasSubstr("weight\": shape is [256, 128]; expected [128, 256]"));
  packed_.Put(Make(Tensor("weight"), DType::kF16, {kOut, kIn}, std::vector<uint16_t>(kIn * kOut)));
  EXPECT_THAT(FindError(IntQuantized("channel", "null")),
              HasSubstr("weight\": dtype is F16; expected I8"));
}

// A fault never goes by the name of a file that does not have it.
TEST_F(PackedLinearTest, TensorsInSeveralFilesGoByTheNameOfTheWhole) {
  PackGptq(4, 1, DType::kF16);
  AlteredSource other(packed_, "other.safetensors");
  other.Put(MakeScales(Tensor("scales"), DType::kF16, kGroups, kOut, Scale));
  const AlteredSource whole(other, "model");
  config_.quantization = Config(Gptq(4));
  EXPECT_EQ(
      Must(Must(OpenQuantizedSource(whole, testing::Planned(config_)))->Find(Tensor("weight")))
          .file,
      "model");
  config_.quantization = Config(Gptq(8));
  EXPECT_THAT(std::string(Must(OpenQuantizedSource(whole, testing::Planned(config_)))
                              ->Find(Tensor("weight"))
                              .status()
                              .message()),
              StartsWith("model: tensor \"" + Tensor("qweight") + "\": shape is [32, 128]"));
}

TEST_F(PackedLinearTest, TensorsAndConfigMustSayTheSame) {
  PackGptq(4, 1, DType::kF16);
  EXPECT_THAT(FindError(Gptq(4, ",\"dynamic\":{\"-:.*k_proj\":{}}")),
              HasSubstr(absl::StrCat("tensor \"", Tensor("qweight"),
                                     "\" is there; expected a plain weight of \"", kModule, "\"")));
  packed_.Put(Make(Tensor("weight"), DType::kF16, {kOut, kIn}, std::vector<uint16_t>(kIn * kOut)));
  EXPECT_THAT(FindError(Gptq(4)), HasSubstr("weight\" is there beside \"" + Tensor("qweight") +
                                            "\"; expected one of them"));
  // What the config would quantize and the file does not is shown as it is.
  for (const char* suffix : {"qweight", "qzeros", "scales"}) packed_.Remove(Tensor(suffix));
  config_.quantization = Config(Gptq(4));
  EXPECT_EQ(
      Must(Must(OpenQuantizedSource(packed_, testing::Planned(config_)))->Find(Tensor("weight")))
          .entry->dtype,
      DType::kF16);
}

TEST_F(PackedLinearTest, InputsAreRoundedWhereTheLinearIsPacked) {
  const auto inputs = [this](const std::string& json) {
    config_.quantization = Config(json);
    return ReadInputRoundings(packed_, testing::Planned(config_));
  };
  const auto of_key = [](const InputRoundings& roundings) {
    return roundings.at(1)[testing::llama::kKey];
  };
  PackIntQuantized(false, DType::kF32);
  const InputRoundings dynamic =
      Must(inputs(IntQuantized("channel", R"({"strategy":"token","dynamic":true})")));
  ASSERT_EQ(dynamic.size(), 4u);
  EXPECT_EQ(of_key(dynamic).format, ActivationFormat::kDynamicToken);
  for (size_t layer = 0; layer < 4; ++layer) {
    for (size_t role = 0; role < testing::llama::kLinears; ++role) {
      if (layer == 1 && role == testing::llama::kKey) continue;
      EXPECT_EQ(dynamic[layer][role], InputRounding()) << layer << ", " << role;
    }
  }

  const std::string fixed = IntQuantized("channel", R"({"strategy":"tensor","dynamic":false})");
  EXPECT_THAT(FindError(fixed), HasSubstr("tensor \"" + Tensor("input_scale") + "\" is missing"));
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{1}, std::vector<int64_t>{}}) {
    packed_.Put(Make(Tensor("input_scale"), DType::kF32, shape, std::vector<float>{0.375f}));
    EXPECT_EQ(of_key(Must(inputs(fixed))),
              (InputRounding{ActivationFormat::kStaticTensor, 0.375f}));
  }
  packed_.Put(Make(Tensor("input_scale"), DType::kBF16, {1}, std::vector<uint16_t>{0x3F40}));
  EXPECT_EQ(of_key(Must(inputs(fixed))).step, 0.75f);
  for (const float value : {0.0f, -1.0f, std::nanf(""), INFINITY}) {
    packed_.Put(Make(Tensor("input_scale"), DType::kF32, {1}, std::vector<float>{value}));
    const absl::Status status = inputs(fixed).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(Tensor("input_scale")));
  }
  packed_.Put(Make(Tensor("input_scale"), DType::kF32, {2}, std::vector<float>{1, 1}));
  EXPECT_THAT(FindError(fixed), HasSubstr("input_scale\": is F32 [2]; expected F16, BF16 or F32"));
}

}  // namespace
}  // namespace salient
