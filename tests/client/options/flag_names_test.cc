#include "client/options/flag_names.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "client/terminal/errors.h"

namespace salient::client {
namespace {

TEST(FlagNamesTest, FieldsThatAFlagSetsAreCalledAsItIs) {
  const std::pair<const char*, const char*> expected[] = {
      {"spec.quantize.formats[0].bits is 8; expected 4, the only width of awq-gemm",
       "--bits is 8; expected 4, the only width of awq-gemm"},
      {"options.format.group_size is 96; expected", "--group-size is 96; expected"},
      {"spec.evaluate.round_to_nearest.bits is 9", "--rtn-bits is 9"},
      {"quantize.overrides: no Linear.", "--override: no Linear."},
      {"bad spec.study.format.bits.", "bad --bits."},
      {"quantize.calibration.tokens: row 3", "--calibration: row 3"},
      {"row 0 has 65 tokens (allow_long_rows takes them)",
       "row 0 has 65 tokens (--allow-long-rows takes them)"},
      {"spec.model.path is \"a\\nb\"; expected", "path of the model is \"a\\nb\"; expected"},
      {"spec.quantize.output_path is", "path of the result is"},
      {"job_id is \"a b\"; expected", "--job-id is \"a b\"; expected"},
      {"quantize.formats[1] would have", "--format would have"},
      {"spec.priority is 10; expected 0 to 9", "spec.priority is 10; expected 0 to 9"},
      {"model.layers.0.self_attn.q_proj: bits is 3", "model.layers.0.self_attn.q_proj: bits is 3"},
      {"config.json: rope_scaling.factor is 0", "config.json: rope_scaling.factor is 0"},
  };
  for (const auto& [said, told] : expected) {
    EXPECT_EQ(InFlags(absl::InvalidArgumentError(said)).message(), told);
  }
  EXPECT_TRUE(InFlags(absl::OkStatus()).ok());
}

TEST(FlagNamesTest, WhatElseIsKnownStays) {
  const absl::Status usage = UsageError("options.format.bits is 9");
  EXPECT_EQ(ExitCodeOf(InFlags(usage)), 2);
  EXPECT_EQ(InFlags(usage).message(), "--bits is 9");
}

}  // namespace
}  // namespace salient::client
