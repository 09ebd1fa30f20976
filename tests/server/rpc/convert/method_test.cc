#include "server/rpc/convert/method.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <variant>

#include "core/method/bounds.h"
#include "core/method/round_block.h"
#include "core/method/round_gptq.h"
#include "core/tensor/dtype.h"
#include "core/tensor/format_bounds.h"
#include "core/tensor/stored_format.h"
#include "server/calls/call_messages.h"
#include "server/error/call_error.h"
#include "server/rpc/convert/tensors.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

CallOptions Options(const v1::QuantizeTensorsOptions& options) {
  v1::QuantizeTensorsRequest request;
  *request.mutable_options() = options;
  const auto message = ToCallMessage(std::move(request));
  EXPECT_TRUE(message.ok()) << message.status();
  return std::get<CallOptions>(*message);
}

TEST(ConvertMethodTest, UnsetOptionsAreTheContractsDefaults) {
  const CallOptions options = Options({});
  EXPECT_EQ(options.method.scale, ScaleChoice::kAwq);
  EXPECT_EQ(options.method.range, RangeChoice::kClip);
  EXPECT_EQ(options.method.rounding, RoundingChoice::kBlock);
  EXPECT_EQ(options.method.block.width, 256);
  EXPECT_EQ(options.method.block.shrinkage, 0.5f);
  EXPECT_EQ(options.method.block.descent_sweeps, 4);
  EXPECT_EQ(options.method.block.refits, 2);
  EXPECT_EQ(options.method.block.damping, 0.01f);
  EXPECT_FALSE(options.method.autoawq);
  EXPECT_EQ(options.method.gptq.damping, 0.2f);
  EXPECT_TRUE(options.method.gptq.act_order);
  EXPECT_EQ(options.method.gptq.descent_sweeps, 4);
  EXPECT_EQ(options.method.gptq.refits, 2);
  EXPECT_EQ(options.stored.format.bits, 4);
  EXPECT_EQ(options.stored.format.group_size, 128);
  EXPECT_FALSE(options.stored.format.symmetric);
  EXPECT_EQ(options.stored.output, OutputFormat::kAwqGemm);
}

TEST(ConvertMethodTest, TakesWhatTheCoreTakesAndNoMore) {
  for (int bits = -1; bits <= 17; ++bits) {
    v1::WeightFormat format;
    format.set_output_format(v1::OUTPUT_FORMAT_DEQUANTIZED_FP16);
    format.set_bits(bits);
    EXPECT_EQ(ToStoredFormat("format", format).ok(), bits == 0 || IsCodeWidth(bits)) << bits;
  }
  for (const int64_t group_size : {-3, -2, -1, 1, 128}) {
    v1::WeightFormat format;
    format.set_output_format(v1::OUTPUT_FORMAT_DEQUANTIZED_FP16);
    format.set_group_size(group_size);
    EXPECT_EQ(ToStoredFormat("format", format).ok(), IsGroupSize(group_size)) << group_size;
  }
  for (const int32_t value :
       {-1, 0, kMostRefits, kMostRefits + 1, kMostDescentSweeps, kMostDescentSweeps + 1}) {
    v1::Method method;
    method.mutable_gptq()->set_refits(value);
    EXPECT_EQ(ToMethod("method", method).ok(), ValidateRoundGptqParams({.refits = value}).ok())
        << value;
    method.mutable_gptq()->clear_refits();
    method.mutable_gptq()->set_descent_sweeps(value);
    EXPECT_EQ(ToMethod("method", method).ok(),
              ValidateRoundGptqParams({.descent_sweeps = value}).ok())
        << value;
    method.mutable_gptq()->clear_descent_sweeps();
    method.mutable_block()->set_refits(value);
    EXPECT_EQ(ToMethod("method", method).ok(),
              ValidateRoundBlockParams({.refits = value}, 256).ok())
        << value;
  }
  for (const float damping : {-0.1f, 0.0f, kMostDamping, 1.01f * kMostDamping}) {
    v1::Method method;
    method.mutable_gptq()->set_damping(damping);
    EXPECT_EQ(ToMethod("method", method).ok(), ValidateRoundGptqParams({.damping = damping}).ok())
        << damping;
  }
}

TEST(ConvertMethodTest, ZeroThatIsSetIsNotADefault) {
  v1::QuantizeTensorsOptions options;
  options.mutable_method()->mutable_block()->set_shrinkage(0);
  options.mutable_method()->mutable_block()->set_refits(0);
  options.mutable_method()->set_scale(v1::SCALE_NONE);
  options.mutable_format()->set_group_size(-1);
  options.mutable_format()->set_symmetric(true);
  options.set_seed(~uint64_t{0});
  const CallOptions converted = Options(options);
  EXPECT_EQ(converted.method.block.shrinkage, 0);
  EXPECT_EQ(converted.method.block.refits, 0);
  EXPECT_EQ(converted.method.scale, ScaleChoice::kNone);
  EXPECT_EQ(converted.stored.format.group_size, -1);
  EXPECT_TRUE(converted.stored.format.symmetric);
  EXPECT_EQ(converted.seed, ~uint64_t{0});
}

TEST(ConvertMethodTest, GptqRoundingTakesItsFields) {
  v1::QuantizeTensorsOptions options;
  options.mutable_method()->set_rounding(v1::ROUNDING_GPTQ);
  v1::GptqRounding& gptq = *options.mutable_method()->mutable_gptq();
  gptq.set_damping(0);
  gptq.set_act_order(false);
  gptq.set_descent_sweeps(0);
  gptq.set_refits(16);
  const CallOptions converted = Options(options);
  EXPECT_EQ(converted.method.rounding, RoundingChoice::kGptq);
  EXPECT_EQ(converted.method.gptq.damping, 0);
  EXPECT_FALSE(converted.method.gptq.act_order);
  EXPECT_EQ(converted.method.gptq.descent_sweeps, 0);
  EXPECT_EQ(converted.method.gptq.refits, 16);
}

TEST(ConvertMethodTest, SmoothQuantSearchesUnlessAlphaIsSet) {
  v1::QuantizeTensorsOptions options;
  options.mutable_method()->set_scale(v1::SCALE_SMOOTHQUANT);
  EXPECT_EQ(Options(options).method.scale, ScaleChoice::kSmoothQuant);
  EXPECT_FALSE(Options(options).method.smoothquant.alpha.has_value());
  options.mutable_method()->mutable_smoothquant()->set_alpha(0);
  EXPECT_EQ(Options(options).method.smoothquant.alpha, 0.0);
}

TEST(ConvertMethodTest, WeightsMayBeDecodedAgainAtAnyWidth) {
  v1::QuantizeTensorsOptions options;
  options.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_DEQUANTIZED_FP16);
  for (const int bits : {2, 3, 8}) {
    options.mutable_format()->set_bits(bits);
    EXPECT_EQ(Options(options).stored.output, OutputFormat::kDequantizedFp16);
    EXPECT_EQ(Options(options).stored.format.bits, bits);
  }
}

StoredFormat Stored(const v1::WeightFormat& message) {
  const auto stored = ToStoredFormat("format", message);
  EXPECT_TRUE(stored.ok()) << stored.status();
  return stored.value_or(StoredFormat());
}

TEST(ConvertMethodTest, EachOutputFormatIsKnownAndHasItsDefaults) {
  for (const auto& [sent, expected] :
       {std::pair{v1::OUTPUT_FORMAT_UNSPECIFIED, OutputFormat::kAwqGemm},
        {v1::OUTPUT_FORMAT_AWQ_GEMM, OutputFormat::kAwqGemm},
        {v1::OUTPUT_FORMAT_GPTQ, OutputFormat::kGptq},
        {v1::OUTPUT_FORMAT_GPTQ_V2, OutputFormat::kGptqV2},
        {v1::OUTPUT_FORMAT_COMPRESSED_TENSORS, OutputFormat::kCompressedTensors},
        {v1::OUTPUT_FORMAT_SCALED_FP16, OutputFormat::kScaledFp16},
        {v1::OUTPUT_FORMAT_DEQUANTIZED_FP16, OutputFormat::kDequantizedFp16}}) {
    v1::WeightFormat message;
    message.set_output_format(sent);
    message.set_symmetric(sent == v1::OUTPUT_FORMAT_GPTQ);
    const StoredFormat stored = Stored(message);
    EXPECT_EQ(stored.output, expected) << sent;
    EXPECT_EQ(stored.format.bits, 4);
    EXPECT_EQ(stored.format.group_size, 128);
    EXPECT_EQ(stored.format.symmetric, message.symmetric());
    EXPECT_EQ(stored.format.scale_dtype, DType::kF16);
    EXPECT_EQ(stored.activations, ActivationFormat::kNone);
  }
  v1::WeightFormat message;
  message.set_output_format(v1::OUTPUT_FORMAT_INT_QUANTIZED);
  const StoredFormat stored = Stored(message);
  EXPECT_EQ(stored.output, OutputFormat::kIntQuantized);
  EXPECT_EQ(stored.format.bits, 8);
  EXPECT_EQ(stored.format.group_size, kWholeRow);
  EXPECT_TRUE(stored.format.symmetric);
  EXPECT_EQ(stored.format.scale_dtype, DType::kF32);
  EXPECT_EQ(stored.activations, ActivationFormat::kDynamicToken);
  message.set_activations(v1::ACTIVATION_FORMAT_STATIC_TENSOR);
  message.set_group_size(-2);
  EXPECT_EQ(Stored(message).activations, ActivationFormat::kStaticTensor);
  EXPECT_EQ(Stored(message).format.group_size, kWholeTensor);
}

struct RefusedOptions {
  const char* name;
  std::function<void(v1::QuantizeTensorsOptions&)> spoil;
  absl::StatusCode code;
  Reason reason;
  const char* field;
  const char* says;
};

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplementedOptions = absl::StatusCode::kUnimplemented;
using Message = v1::QuantizeTensorsOptions;

const RefusedOptions kRefusedOptions[] = {
    {"Scale", [](Message& m) { m.mutable_method()->set_scale(static_cast<v1::Scale>(77)); },
     kInvalid, Reason::kBadMethod, "options.method.scale", "77"},
    {"NegativeRange", [](Message& m) { m.mutable_method()->set_range(static_cast<v1::Range>(-1)); },
     kInvalid, Reason::kBadMethod, "options.method.range", "-1"},
    {"Rounding", [](Message& m) { m.mutable_method()->set_rounding(static_cast<v1::Rounding>(9)); },
     kInvalid, Reason::kBadMethod, "options.method.rounding", "9"},
    {"GptqDamping", [](Message& m) { m.mutable_method()->mutable_gptq()->set_damping(11); },
     kInvalid, Reason::kBadMethod, "options.method.gptq.damping", "0 to 10"},
    {"GptqSweeps", [](Message& m) { m.mutable_method()->mutable_gptq()->set_descent_sweeps(65); },
     kInvalid, Reason::kBadMethod, "options.method.gptq.descent_sweeps", "65"},
    {"GptqRefits", [](Message& m) { m.mutable_method()->mutable_gptq()->set_refits(-1); }, kInvalid,
     Reason::kBadMethod, "options.method.gptq.refits", "0 to 16"},
    {"GptqAsAutoAwq",
     [](Message& m) {
       m.mutable_method()->set_rounding(v1::ROUNDING_GPTQ);
       m.mutable_method()->set_autoawq(true);
     },
     kInvalid, Reason::kBadMethod, "options.method.autoawq", "ROUNDING_GPTQ"},
    {"AlphaAboveOne",
     [](Message& m) { m.mutable_method()->mutable_smoothquant()->set_alpha(1.25); }, kInvalid,
     Reason::kBadMethod, "options.method.smoothquant.alpha", "1.25"},
    {"AlphaThatIsNoNumber",
     [](Message& m) {
       m.mutable_method()->mutable_smoothquant()->set_alpha(
           std::numeric_limits<double>::quiet_NaN());
     },
     kInvalid, Reason::kBadMethod, "options.method.smoothquant.alpha", "0 to 1"},
    {"AutoawqWithSmoothQuant",
     [](Message& m) {
       m.mutable_method()->set_autoawq(true);
       m.mutable_method()->set_scale(v1::SCALE_SMOOTHQUANT);
       m.mutable_method()->set_rounding(v1::ROUNDING_NEAREST);
     },
     kInvalid, Reason::kBadMethod, "options.method.autoawq", "SCALE_AWQ"},
    {"AsymmetricGptq",
     [](Message& m) { m.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_GPTQ); }, kInvalid,
     Reason::kBadFormat, "options.format.symmetric", "gptq-v2 and compressed-tensors"},
    {"FiveBitsOfCompressedTensors",
     [](Message& m) {
       m.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_COMPRESSED_TENSORS);
       m.mutable_format()->set_bits(5);
     },
     kInvalid, Reason::kBadFormat, "options.format.bits", "dequantized-fp16 has 2 to 8"},
    {"GroupsOfIntQuantized",
     [](Message& m) {
       m.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_INT_QUANTIZED);
       m.mutable_format()->set_group_size(64);
     },
     kInvalid, Reason::kBadFormat, "options.format.group_size", "compressed-tensors has groups"},
    {"ActivationsOfAwq",
     [](Message& m) { m.mutable_format()->set_activations(v1::ACTIVATION_FORMAT_STATIC_TENSOR); },
     kInvalid, Reason::kBadFormat, "options.format.activations", "int-quantized"},
    {"UnknownActivations",
     [](Message& m) { m.mutable_format()->set_activations(static_cast<v1::ActivationFormat>(7)); },
     kInvalid, Reason::kBadFormat, "options.format.activations", "7"},
    {"WholeTensorOfAwq", [](Message& m) { m.mutable_format()->set_group_size(-2); }, kInvalid,
     Reason::kBadFormat, "options.format.group_size", "-1, one scale a row"},
    {"UnknownFormat",
     [](Message& m) { m.mutable_format()->set_output_format(static_cast<v1::OutputFormat>(80)); },
     kInvalid, Reason::kBadFormat, "options.format.output_format", "80"},
    {"ThreeBits", [](Message& m) { m.mutable_format()->set_bits(3); }, kInvalid, Reason::kBadFormat,
     "options.format.bits", "4"},
    {"OneBit", [](Message& m) { m.mutable_format()->set_bits(1); }, kInvalid, Reason::kBadFormat,
     "options.format.bits", "2 to 8"},
    {"GroupSize", [](Message& m) { m.mutable_format()->set_group_size(-3); }, kInvalid,
     Reason::kBadFormat, "options.format.group_size", "-3"},
    {"Width", [](Message& m) { m.mutable_method()->mutable_block()->set_width(0); }, kInvalid,
     Reason::kBadMethod, "options.method.block.width", "128 or 256"},
    {"Shrinkage",
     [](Message& m) {
       m.mutable_method()->mutable_block()->set_shrinkage(std::numeric_limits<float>::quiet_NaN());
     },
     kInvalid, Reason::kBadMethod, "options.method.block.shrinkage", "nan"},
    {"Damping", [](Message& m) { m.mutable_method()->mutable_block()->set_damping(-0.5f); },
     kInvalid, Reason::kBadMethod, "options.method.block.damping", "-0.5"},
    {"Sweeps", [](Message& m) { m.mutable_method()->mutable_block()->set_descent_sweeps(65); },
     kInvalid, Reason::kBadMethod, "options.method.block.descent_sweeps", "65"},
    {"Autoawq", [](Message& m) { m.mutable_method()->set_autoawq(true); }, kInvalid,
     Reason::kBadMethod, "options.method.autoawq", "ROUNDING_NEAREST"},
};

class RefusedOptionsTest : public ::testing::TestWithParam<RefusedOptions> {};
INSTANTIATE_TEST_SUITE_P(Options, RefusedOptionsTest, ::testing::ValuesIn(kRefusedOptions),
                         [](const auto& refused) { return std::string(refused.param.name); });

TEST_P(RefusedOptionsTest, NamesTheFieldTheValueAndWhatWasExpected) {
  v1::QuantizeTensorsRequest request;
  GetParam().spoil(*request.mutable_options());
  const absl::Status status = ToCallMessage(std::move(request)).status();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  const CallErrorDetails details = DetailsOf(status);
  EXPECT_EQ(Name(details.reason), Name(GetParam().reason));
  EXPECT_EQ(details.field, GetParam().field);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().says));
}

}  // namespace
}  // namespace salient
