// Checks what a job asks of single modules, and formats and overrides that cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/result/module_override.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "tests/server/jobs/output_fixture.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::kAwq;
using testing::kPlain;
using testing::Must;
using testing::Stored;

constexpr char kDown[] = "model.layers.0.mlp.down_proj";

using JobOverridesTest = testing::OutputTest;

TEST_F(JobOverridesTest, OverridesReachTheResult) {
  JobSpec spec = Spec({Stored(kAwq)}, "out");
  std::get<QuantizeTask>(spec.task).overrides = {{"model.layers.1.mlp.down_proj", 0, 0, true}};
  const JobSnapshot job = Run(spec);
  const Checkpoint checkpoint = Must(Checkpoint::Open((Outputs() / "out").string()));
  EXPECT_TRUE(checkpoint.Find("model.layers.1.mlp.down_proj.weight").ok());
  EXPECT_TRUE(checkpoint.Find("model.layers.0.mlp.down_proj.qweight").ok());
  const std::string config = testing::FileContent(Outputs() / "out" / "config.json");
  EXPECT_THAT(config, HasSubstr("\"model.layers.1.mlp.down_proj\""));
  // Nobody is warned of what was asked for.
  for (const std::string& warning : Warnings(job.name)) {
    EXPECT_EQ(warning.find("not quantized: "), warning.npos) << warning;
  }
  EXPECT_EQ(Reports(job).size(), 11u);
  EXPECT_EQ(job.usage.linear_count, 3 * 7);
  EXPECT_EQ(job.usage.quantized_linear_count, 3 * 7 - 1);
}

TEST_F(JobOverridesTest, AnOverrideMayAskForOneScaleOfTheWholeTensor) {
  JobSpec spec = Spec({Stored(kPlain)}, "plain");
  const JobSnapshot plain = Run(spec);
  std::get<QuantizeTask>(spec.task).output_path = "out";
  std::get<QuantizeTask>(spec.task).overrides = {{kDown, 0, kWholeTensor, false}};
  const JobSnapshot job = Run(spec);
  std::map<std::string, double> errors;
  for (const TimedGroupReport& group : Reports(plain)) {
    errors[group.report.name] = group.report.relative_output_error_rtn;
  }
  // One scale for all is worse than one for every 16, and only where it was asked for.
  for (const TimedGroupReport& group : Reports(job)) {
    const double error = group.report.relative_output_error_rtn;
    if (group.report.linears[0].name == kDown) {
      EXPECT_GT(error, errors.at(group.report.name));
    } else if (group.report.name.find("layers.0.") == std::string::npos) {
      EXPECT_EQ(error, errors.at(group.report.name)) << group.report.name;
    }
  }
}

TEST_F(JobOverridesTest, WhatCannotBeIsRefusedAtSubmission) {
  struct Case {
    std::vector<StoredFormat> formats;
    std::vector<ModuleOverride> overrides;
    const char* field;
    const char* says;
  };
  const Case cases[] = {
      {{Stored(kAwq), Stored(kAwq)}, {}, "quantize.formats", "awq-gemm-4bit-g16"},
      {{}, {}, "quantize.formats", "1 to 8"},
      {{Stored(kPlain), Stored(kAwq, 3)}, {}, "quantize.formats[1]", "bits is 3"},
      {{Stored(kPlain)},
       {{"model.layers.3.mlp.down_proj", 8, 0, false}},
       "quantize.overrides",
       "block 0 to 2"},
      {{Stored(kPlain)},
       {{"model.layers.0.mlp.up_proj", 8, 0, false}},
       "quantize.overrides",
       "model.layers.0.mlp.gate_proj"},
      {{Stored(kPlain), Stored(kAwq)},
       {{"model.layers.0.mlp.down_proj", 8, 0, false}},
       "quantize.overrides",
       "awq-gemm has one format"},
      {{Stored(kPlain)}, {{"", 8, 0, false}}, "quantize.overrides", "no Linear of a decoder block"},
      {{Stored(kPlain)}, {{kDown, 16, 0, false}}, "quantize.overrides", "bits is 16"},
      {{Stored(kPlain)}, {{kDown, 0, -3, false}}, "quantize.overrides", "-2 for the whole tensor"},
      {{Stored(kPlain)}, {{kDown, 0, 0, false}}, "quantize.overrides", "says nothing"},
      {{Stored(kPlain)}, {{kDown, 8, 0, true}}, "quantize.overrides", "one of the two"},
      {{Stored(kPlain)},
       {{kDown, 8, 0, false}, {kDown, 8, 0, false}},
       "quantize.overrides",
       "is there twice"},
      // One scale a tensor is a format, but not of this layout.
      {{Stored(OutputFormat::kCompressedTensors)},
       {{kDown, 0, kWholeTensor, false}},
       "",
       "no compressed-tensors with one scale for a whole tensor"},
  };
  for (const Case& c : cases) {
    JobSpec spec = Spec(c.formats);
    std::get<QuantizeTask>(spec.task).overrides = c.overrides;
    const absl::Status status = bench_.table().Submit(spec, "", "", false).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.says;
    EXPECT_EQ(DetailsOf(status).field, c.field) << c.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.says));
  }
}

}  // namespace
}  // namespace salient
