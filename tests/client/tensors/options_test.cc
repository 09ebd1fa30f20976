#include "client/tensors/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace salient::client {
namespace {

using ::testing::HasSubstr;

v1::Method MethodOf(const MethodOptions& options) {
  const auto message = ToMessage(options);
  EXPECT_TRUE(message.ok()) << message.status();
  return message.ok() ? message->method() : v1::Method();
}

TEST(TensorsOptionsTest, DefaultIsAwqClipBlockInFourBitsOf128) {
  const auto message = ToMessage(MethodOptions());
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->method().scale(), v1::SCALE_AWQ);
  EXPECT_EQ(message->method().range(), v1::RANGE_CLIP);
  EXPECT_EQ(message->method().rounding(), v1::ROUNDING_BLOCK);
  EXPECT_FALSE(message->method().autoawq());
  EXPECT_EQ(message->format().bits(), 4);
  EXPECT_EQ(message->format().group_size(), 128);
  EXPECT_FALSE(message->format().symmetric());
}

TEST(TensorsOptionsTest, RtnIsNoneMinMaxNearest) {
  const v1::Method method = MethodOf({.method = "rtn"});
  EXPECT_EQ(method.scale(), v1::SCALE_NONE);
  EXPECT_EQ(method.range(), v1::RANGE_MIN_MAX);
  EXPECT_EQ(method.rounding(), v1::ROUNDING_NEAREST);
}

TEST(TensorsOptionsTest, AChoiceOverridesThePreset) {
  const v1::Method method = MethodOf({.method = "rtn", .range = "clip"});
  EXPECT_EQ(method.scale(), v1::SCALE_NONE);
  EXPECT_EQ(method.range(), v1::RANGE_CLIP);
  EXPECT_EQ(method.rounding(), v1::ROUNDING_NEAREST);
}

TEST(TensorsOptionsTest, AutoawqRoundsToNearestUnlessToldOtherwise) {
  const v1::Method method = MethodOf({.autoawq = true});
  EXPECT_TRUE(method.autoawq());
  EXPECT_EQ(method.rounding(), v1::ROUNDING_NEAREST);
  EXPECT_EQ(method.range(), v1::RANGE_CLIP);
  EXPECT_EQ(MethodOf({.rounding = "block", .autoawq = true}).rounding(), v1::ROUNDING_BLOCK);
}

TEST(TensorsOptionsTest, FlagsOfARoundingGoIntoItsMessage) {
  const v1::Method plain = MethodOf({.method = "gptq"});
  EXPECT_EQ(plain.scale(), v1::SCALE_NONE);
  EXPECT_EQ(plain.range(), v1::RANGE_MIN_MAX);
  EXPECT_EQ(plain.rounding(), v1::ROUNDING_GPTQ);
  EXPECT_FALSE(plain.has_gptq()) << "the server's defaults";
  const v1::Method gptq = MethodOf({.rounding = "gptq",
                                    .gptq_damping = 0.05f,
                                    .no_act_order = true,
                                    .descent_sweeps = 3,
                                    .refits = 0});
  EXPECT_EQ(gptq.scale(), v1::SCALE_AWQ);
  EXPECT_EQ(gptq.gptq().damping(), 0.05f);
  EXPECT_FALSE(gptq.gptq().act_order());
  EXPECT_EQ(gptq.gptq().descent_sweeps(), 3);
  EXPECT_TRUE(gptq.gptq().has_refits());
  EXPECT_EQ(gptq.gptq().refits(), 0);
  EXPECT_FALSE(gptq.has_block());
  const v1::Method block = MethodOf({.refits = 1});
  EXPECT_EQ(block.block().refits(), 1);
  EXPECT_FALSE(block.block().has_descent_sweeps());
}

TEST(TensorsOptionsTest, AFlagThatDoesNotGoWithTheRoundingIsRefused) {
  EXPECT_EQ(ToMessage({.gptq_damping = 0.05f}).status().message(),
            "--gptq-damping goes with --rounding gptq only");
  EXPECT_EQ(ToMessage({.no_act_order = true}).status().message(),
            "--no-act-order goes with --rounding gptq only");
  EXPECT_EQ(ToMessage({.method = "rtn", .descent_sweeps = 1}).status().message(),
            "--descent-sweeps goes with --rounding gptq or block only");
  EXPECT_EQ(ToMessage({.method = "rtn", .refits = 1}).status().message(),
            "--refits goes with --rounding gptq or block only");
}

TEST(TensorsOptionsTest, SmoothQuantSearchesAlphaUnlessToldOtherwise) {
  const v1::Method method = MethodOf({.method = "smoothquant"});
  EXPECT_EQ(method.scale(), v1::SCALE_SMOOTHQUANT);
  EXPECT_EQ(method.range(), v1::RANGE_MIN_MAX);
  EXPECT_EQ(method.rounding(), v1::ROUNDING_NEAREST);
  EXPECT_FALSE(method.smoothquant().has_alpha());
  EXPECT_EQ(MethodOf({.method = "smoothquant", .smoothquant_alpha = 0}).smoothquant().alpha(), 0);
  EXPECT_THAT(ToMessage({.smoothquant_alpha = 0.5}).status().message(),
              HasSubstr("--scale smoothquant"));
}

TEST(TensorsOptionsTest, UnknownValueIsNamedWithTheKnownOnes) {
  const auto message = ToMessage({.range = "wide"});
  EXPECT_EQ(message.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(message.status().message(), "--range \"wide\"; expected minmax or clip");
}

TEST(MethodOptionsTest, WhatTheServerLacksIsRefusedWithWhatItHas) {
  v1::GetServerInfoResponse info;
  info.add_scales(v1::SCALE_NONE);
  info.add_scales(v1::SCALE_AWQ);
  info.add_ranges(v1::RANGE_MIN_MAX);
  info.add_ranges(v1::RANGE_CLIP);
  info.add_roundings(v1::ROUNDING_NEAREST);
  info.add_roundings(v1::ROUNDING_BLOCK);
  info.add_output_formats(v1::OUTPUT_FORMAT_AWQ_GEMM);
  const auto check = [&](const MethodOptions& options, const std::string& format) {
    return CheckServerHas(info, *ToMethod(options), *ToWeightFormat(options, format));
  };
  EXPECT_TRUE(check({}, "awq-gemm").ok());
  const absl::Status gptq = check({.method = "gptq"}, "awq-gemm");
  EXPECT_EQ(gptq.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(gptq.message(), "--rounding gptq: this server does not have it; it has nearest, block");
  EXPECT_THAT(check({.method = "smoothquant"}, "awq-gemm").message(), HasSubstr("--scale"));
  EXPECT_THAT(check({}, "gptq-v2").message(), HasSubstr("--format gptq-v2"));
}

}  // namespace
}  // namespace salient::client
