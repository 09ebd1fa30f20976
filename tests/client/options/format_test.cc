#include "client/options/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "client/options/quantize.h"

namespace salient::client {
namespace {

using ::testing::HasSubstr;

TEST(FormatFlagsTest, AFormatTakesWhatItDoesNotSayFromTheOtherFlags) {
  MethodOptions options;
  options.bits = 3;
  options.group_size = 64;
  struct Case {
    const char* flag;
    v1::OutputFormat output;
    int32_t bits;
    int64_t group_size;
  };
  for (const Case& c :
       {Case{"awq-gemm", v1::OUTPUT_FORMAT_AWQ_GEMM, 3, 64},
        Case{"compressed-tensors:bits=8", v1::OUTPUT_FORMAT_COMPRESSED_TENSORS, 8, 64},
        Case{"gptq:group_size=-1", v1::OUTPUT_FORMAT_GPTQ, 3, -1},
        Case{"int-quantized:bits=8,group_size=-2", v1::OUTPUT_FORMAT_INT_QUANTIZED, 8, -2},
        Case{"dequantized-fp16:bits=2,group_size=16", v1::OUTPUT_FORMAT_DEQUANTIZED_FP16, 2, 16}}) {
    const auto format = ParseFormat(options, c.flag);
    ASSERT_TRUE(format.ok()) << format.status();
    EXPECT_EQ(format->output_format(), c.output) << c.flag;
    EXPECT_EQ(format->bits(), c.bits) << c.flag;
    EXPECT_EQ(format->group_size(), c.group_size) << c.flag;
  }
  for (const char* flag :
       {"best", "", "awq-gemm:", "awq-gemm:bits", "awq-gemm:bits=", "awq-gemm:bits=9",
        "awq-gemm:bits=4,", "awq-gemm:bits=4,bits=4", "awq-gemm:bits=4,bits=group_size=64",
        "awq-gemm:bits=+4", "awq-gemm:bits=\t4", "awq-gemm:skip", "awq-gemm:group_size=0",
        "awq-gemm:group_size=-3", "awq-gemm:width=4", "awq-gemm:bits=4:group_size=2"}) {
    const absl::Status status = ParseFormat(options, flag).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << flag;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--format")) << flag;
  }
  EXPECT_EQ(ParseFormat(options, "gptq:bits=9").status().message(),
            "--format \"gptq:bits=9\"; expected NAME, or NAME:bits=2..8,group_size=N with one of "
            "these or both");
}

TEST(FormatFlagsTest, AnOverrideIsAModuleAndWhatIsDifferent) {
  const std::string module = "model.layers.0.mlp.down_proj";
  const auto both = ParseOverride(module + ":bits=8,group_size=64");
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->module(), module);
  EXPECT_EQ(both->bits(), 8);
  EXPECT_EQ(both->group_size(), 64);
  EXPECT_FALSE(both->skip());
  const auto whole = ParseOverride(module + ":group_size=-2");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->group_size(), -2);
  const auto skip = ParseOverride(module + ":skip");
  ASSERT_TRUE(skip.ok()) << skip.status();
  EXPECT_EQ(skip->bits(), 0);
  EXPECT_TRUE(skip->skip());
  for (const char* flag : {"", "m", ":bits=8", "m:", "m:bits=1", "m:bits=8,skip", "m:skip,skip",
                           "m:group_size=x", "m:bits=8 ", "m:bits=99999999999"}) {
    const absl::Status status = ParseOverride(flag).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << flag;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--override")) << flag;
    EXPECT_THAT(std::string(status.message()), HasSubstr("MODULE:skip")) << flag;
  }
}

TEST(FormatFlagsTest, ATaskHasAllOfThem) {
  QuantizeOptions options;
  options.formats = {"awq-gemm", "dequantized-fp16:bits=3"};
  options.overrides = {"a:skip", "b:bits=8"};
  options.max_relative_error = 0.25;
  const auto task = ToTask(options);
  ASSERT_TRUE(task.ok()) << task.status();
  ASSERT_EQ(task->formats_size(), 2);
  EXPECT_EQ(task->formats(1).bits(), 3);
  ASSERT_EQ(task->overrides_size(), 2);
  EXPECT_EQ(task->overrides(1).module(), "b");
  EXPECT_EQ(task->max_relative_error(), 0.25);
  // Every format is looked for in what the server has.
  v1::GetServerInfoResponse info;
  info.add_scales(v1::SCALE_AWQ);
  info.add_ranges(v1::RANGE_CLIP);
  info.add_roundings(v1::ROUNDING_BLOCK);
  info.add_output_formats(v1::OUTPUT_FORMAT_AWQ_GEMM);
  const absl::Status has = CheckServerHas(info, *task);
  EXPECT_EQ(has.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(has.message()), HasSubstr("dequantized-fp16"));
  info.add_output_formats(v1::OUTPUT_FORMAT_DEQUANTIZED_FP16);
  EXPECT_TRUE(CheckServerHas(info, *task).ok());
}

TEST(FormatFlagsTest, EnginesAndActivationsAreLookedForInWhatTheServerHas) {
  QuantizeOptions options;
  options.formats = {"int-quantized"};
  options.method.activations = "static";
  options.engines.engines = {"vllm", "tgi"};
  const auto task = ToTask(options);
  ASSERT_TRUE(task.ok()) << task.status();
  v1::GetServerInfoResponse info;
  info.add_scales(v1::SCALE_AWQ);
  info.add_ranges(v1::RANGE_CLIP);
  info.add_roundings(v1::ROUNDING_BLOCK);
  info.add_output_formats(v1::OUTPUT_FORMAT_INT_QUANTIZED);
  info.add_activation_formats(v1::ACTIVATION_FORMAT_DYNAMIC_TOKEN);
  info.add_engines(v1::ENGINE_VLLM);
  absl::Status has = CheckServerHas(info, *task);
  EXPECT_EQ(has.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(has.message(), "--activations static: this server does not have it; it has dynamic");
  info.add_activation_formats(v1::ACTIVATION_FORMAT_STATIC_TENSOR);
  has = CheckServerHas(info, *task);
  EXPECT_EQ(has.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(has.message(), "--engine tgi: this server does not know it; it knows vllm");
  info.add_engines(v1::ENGINE_TGI);
  EXPECT_TRUE(CheckServerHas(info, *task).ok());
}

// W8A8 is what SmoothQuant is for, so it is what the preset alone means; whoever says more gets it.
TEST(FormatFlagsTest, SmoothQuantAloneIsWeightsAndActivationsInEightBits) {
  const auto format_of = [](const QuantizeOptions& options) {
    const auto task = ToTask(options);
    EXPECT_TRUE(task.ok()) << task.status();
    return task.ok() ? task->formats(0) : v1::WeightFormat();
  };
  QuantizeOptions options;
  EXPECT_EQ(format_of(options).output_format(), v1::OUTPUT_FORMAT_AWQ_GEMM);
  options.method.method = "smoothquant";
  const v1::WeightFormat alone = format_of(options);
  EXPECT_EQ(alone.output_format(), v1::OUTPUT_FORMAT_INT_QUANTIZED);
  EXPECT_EQ(alone.bits(), 8);
  EXPECT_EQ(alone.group_size(), -1);
  EXPECT_TRUE(alone.symmetric());
  options.method.group_size = -2;
  const v1::WeightFormat whole = format_of(options);
  EXPECT_EQ(whole.output_format(), v1::OUTPUT_FORMAT_INT_QUANTIZED);
  EXPECT_EQ(whole.bits(), 8);
  EXPECT_EQ(whole.group_size(), -2);
  options.method.group_size = 0;
  options.formats = {"dequantized-fp16"};
  const v1::WeightFormat other = format_of(options);
  EXPECT_EQ(other.output_format(), v1::OUTPUT_FORMAT_DEQUANTIZED_FP16);
  EXPECT_EQ(other.bits(), 4);
  EXPECT_EQ(other.group_size(), 128);
  EXPECT_FALSE(other.symmetric());
}

}  // namespace
}  // namespace salient::client
