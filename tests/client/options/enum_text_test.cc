#include "client/options/enum_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/options/engine.h"
#include "client/options/method.h"
#include "client/tensors/data_type.h"
#include "core/tensor/dtype.h"
#include "salient/v1/method.pb.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;

TEST(EnumTextTest, NamesAreThoseOfTheContractInLowerCase) {
  EXPECT_EQ(EnumText(v1::OUTPUT_FORMAT_AWQ_GEMM), "awq-gemm");
  EXPECT_EQ(EnumText(v1::SCALE_SMOOTHQUANT), "smoothquant");
  EXPECT_EQ(EnumText(v1::RANGE_MIN_MAX), "min-max");
  EXPECT_EQ(EnumText(v1::ACTIVATION_FORMAT_DYNAMIC_TOKEN), "dynamic-token");
  EXPECT_EQ(EnumText(static_cast<v1::Scale>(99)), "");
}

TEST(EnumTextTest, FlagsHaveTheirOrderAndShortNames) {
  EXPECT_THAT(FlagTexts<v1::Scale>(), ElementsAre("none", "awq", "smoothquant"));
  EXPECT_THAT(FlagTexts<v1::Range>(), ElementsAre("minmax", "clip"));
  EXPECT_THAT(FlagTexts<v1::Rounding>(), ElementsAre("nearest", "block", "gptq"));
  EXPECT_THAT(FlagTexts<v1::ActivationFormat>(), ElementsAre("dynamic", "static"));
  EXPECT_THAT(FlagTexts<v1::OutputFormat>(),
              ElementsAre("awq-gemm", "gptq", "gptq-v2", "compressed-tensors", "int-quantized",
                          "scaled-fp16", "dequantized-fp16"));
  EXPECT_THAT(FlagTexts<v1::Engine>(), ElementsAre("vllm", "vllm-cpu", "sglang", "tgi", "lmdeploy",
                                                   "transformers", "llama-cpp"));
  EXPECT_EQ(FlagText(static_cast<v1::Scale>(99)), "99");
}

template <typename Enum>
void ExpectReadAgain() {
  const auto& type = *google::protobuf::GetEnumDescriptor<Enum>();
  for (int i = 1; i < type.value_count(); ++i) {
    const auto value = static_cast<Enum>(type.value(i)->number());
    EXPECT_EQ(EnumNamed<Enum>(FlagText(value)), value) << FlagText(value);
    EXPECT_EQ(EnumNamed<Enum>(EnumText(value)), value) << EnumText(value);
  }
  EXPECT_FALSE(EnumNamed<Enum>("unspecified").has_value());
  EXPECT_FALSE(EnumNamed<Enum>("").has_value());
}

TEST(EnumTextTest, EveryNameThatIsToldIsReadAgain) {
  ExpectReadAgain<v1::Scale>();
  ExpectReadAgain<v1::Range>();
  ExpectReadAgain<v1::Rounding>();
  ExpectReadAgain<v1::OutputFormat>();
  ExpectReadAgain<v1::ActivationFormat>();
  ExpectReadAgain<v1::Engine>();
  ExpectReadAgain<v1::ComputeDtype>();
}

// What `salient inspect` prints is a longer name than that of the flag.
TEST(EnumTextTest, OptionsTakeTheLongNames) {
  MethodOptions options;
  options.range = "min-max";
  options.activations = "static-tensor";
  const auto method = ToMethod(options);
  ASSERT_TRUE(method.ok()) << method.status();
  EXPECT_EQ(method->range(), v1::RANGE_MIN_MAX);
  const auto format = ToWeightFormat(options, "int-quantized");
  ASSERT_TRUE(format.ok()) << format.status();
  EXPECT_EQ(format->activations(), v1::ACTIVATION_FORMAT_STATIC_TENSOR);
}

TEST(EnumTextTest, ElementTypesAreThoseOfFiles) {
  for (int i = 1; i < v1::DataType_ARRAYSIZE; ++i) {
    const auto wire = static_cast<v1::DataType>(i);
    const auto dtype = FromWire(wire);
    ASSERT_TRUE(dtype.has_value()) << v1::DataType_Name(wire);
    EXPECT_EQ(ToWire(*dtype), wire);
  }
  EXPECT_FALSE(FromWire(v1::DATA_TYPE_UNSPECIFIED).has_value());
  EXPECT_FALSE(FromWire(static_cast<v1::DataType>(99)).has_value());
  EXPECT_EQ(ToWire(DType::kF64), v1::DATA_TYPE_UNSPECIFIED);
}

}  // namespace
}  // namespace salient::client
