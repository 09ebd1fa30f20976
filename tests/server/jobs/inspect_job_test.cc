#include "server/jobs/inspect_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/engines/engine.h"
#include "core/engines/engine_verdict.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using ::testing::Contains;
using ::testing::Each;
using testing::Files;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::JobBench;
using testing::MakeModel;
using testing::Must;
using ::testing::Not;

class InspectJobTest : public testing::JobTest {
 protected:
  static JobSpec InspectSpec(ModelSource model, int64_t tensor_parallel = 1) {
    return JobBench::Spec(std::move(model), InspectTask{tensor_parallel});
  }

  JobSpec QuantizeFor(std::vector<Engine> engines, int64_t tensor_parallel = 1) {
    JobSpec spec = JobBench::Quantize(JobBench::Manifest(model_), tokens_);
    std::get<QuantizeTask>(spec.task).engines = {std::move(engines), tensor_parallel};
    return spec;
  }
};

const EngineVerdict& Of(const Inspection& inspection, Engine engine) {
  for (const EngineVerdict& verdict : inspection.engines) {
    if (verdict.engine == engine) return verdict;
  }
  throw std::runtime_error("no such engine");
}

TEST_F(InspectJobTest, HeadersAreEnough) {
  const JobSnapshot job = bench_.Submit(InspectSpec(JobBench::Manifest(model_, true)));
  EXPECT_THAT(job.missing, IsEmpty());
  EXPECT_EQ(job.estimate.flop, 0);
  EXPECT_FALSE(job.provisional);
  const JobSnapshot done = bench_.Finish(job.name);
  ASSERT_EQ(done.state, JobState::kSucceeded) << done.error;
  ASSERT_TRUE(done.inspection.has_value());
  EXPECT_EQ(done.inspection->architecture, "LlamaForCausalLM");
  EXPECT_EQ(done.inspection->quant_method, "");
  EXPECT_EQ(done.inspection->plain_linears, 3 * 7);
  EXPECT_EQ(done.inspection->quantized_linears, 0);
  EXPECT_FALSE(done.provisional);
  // It is F16 and its embeddings are tied.
  const int64_t parameters = testing::ParametersOf({});
  EXPECT_EQ(done.inspection->parameters, parameters);
  EXPECT_EQ(done.inspection->bytes, 2 * parameters);
  // vLLM on CPUs has no attention for heads as small as these.
  for (const EngineVerdict& verdict : done.inspection->engines) {
    EXPECT_EQ(verdict.loads(), verdict.engine != Engine::kVllmCpu);
  }
  EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
}

TEST_F(InspectJobTest, WeightsNeedNoName) {
  ModelSource unnamed = JobBench::Manifest(model_, true);
  for (ModelFile& file : unnamed.files) {
    if (file.name == "model.safetensors") file.digest.sha256 = {};
  }
  const JobSnapshot job = Run(InspectSpec(unnamed));
  ASSERT_TRUE(job.inspection.has_value());
  EXPECT_EQ(job.inspection->parameters, testing::ParametersOf({}));
  EXPECT_EQ(bench_.store().Usage().blobs, 0);
}

TEST_F(InspectJobTest, HeadersThatAreNowhereAreAskedFor) {
  const auto refused =
      bench_.table().Submit(InspectSpec(JobBench::Manifest(model_)), "", "", false);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(DetailsOf(refused.status()).reason, Reason::kMissingBlob);
  bench_.SendAll(model_);
  EXPECT_EQ(bench_.Finish(bench_.Submit(InspectSpec(JobBench::Manifest(model_))).name).state,
            JobState::kSucceeded);
}

TEST_F(InspectJobTest, AResultOfOursIsWhatWasAskedFor) {
  bench_.WriteModel("m", model_);
  ASSERT_TRUE(bench_.Send(tokens_).ok());
  JobSpec spec = JobBench::Quantize(ModelSource{{}, "m"}, tokens_);
  std::get<QuantizeTask>(spec.task).output_path = "q";
  Run(spec);
  bench_.MakeModelOfOutput("q");
  const JobSnapshot job = Run(InspectSpec(ModelSource{{}, "q"}, /*tensor_parallel=*/2));
  ASSERT_TRUE(job.inspection.has_value());
  const Inspection& inspection = *job.inspection;
  EXPECT_EQ(inspection.quant_method, "awq");
  EXPECT_EQ(inspection.stored.output, OutputFormat::kAwqGemm);
  EXPECT_EQ(inspection.stored.format.bits, 4);
  EXPECT_EQ(inspection.stored.format.group_size, 16);
  EXPECT_EQ(inspection.quantized_linears, 3 * 7);
  EXPECT_EQ(inspection.plain_linears, 0);
  // 48 inputs of down_proj on two devices are one and a half groups of 16.
  EXPECT_THAT(Of(inspection, Engine::kVllmCpu).faults,
              Contains(HasSubstr("down_proj: in_features is 48, which 2 devices share")));
  EXPECT_THAT(Of(inspection, Engine::kTgi).faults, Contains(HasSubstr("group_size is 16")));
  EXPECT_TRUE(Of(inspection, Engine::kTransformers).loads());
}

TEST_F(InspectJobTest, ABrokenModelNamesTheTensor) {
  Files broken = MakeModel({});
  std::string& config = broken["config.json"];
  const std::string from = "\"intermediate_size\": 48";
  config.replace(config.find(from), from.size(), "\"intermediate_size\": 64");
  const auto refused =
      bench_.table().Submit(InspectSpec(JobBench::Manifest(broken, true)), "", "", false);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(refused.status()).reason, Reason::kBadModel);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("mlp.gate_proj.weight"));
}

TEST_F(InspectJobTest, AnEngineThatCannotLoadTheResultRefusesTheJob) {
  const auto refused = bench_.table().Submit(QuantizeFor({Engine::kTgi}), "", "", false);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(refused.status()).reason, Reason::kBadFormat);
  EXPECT_EQ(DetailsOf(refused.status()).field, "quantize.engines");
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("group_size is 16; tgi wants 32, 64 or 128"));
}

TEST_F(InspectJobTest, WithoutAnEngineOneWarningSaysWhichLoadTheResult) {
  const JobSnapshot job = bench_.Submit(QuantizeFor({}));
  ASSERT_TRUE(bench_.table().Cancel(job.name).ok());
  const std::vector<std::string> warnings = Warnings(job.name);
  EXPECT_THAT(warnings, Contains(HasSubstr("the result loads in ")).Times(1));
  EXPECT_THAT(warnings, Contains(HasSubstr("and llama-cpp (inspect says why)")).Times(1));
  EXPECT_THAT(job.warnings, IsEmpty());
  // Whoever only asks hears the same.
  const JobSnapshot asked = Must(bench_.table().Submit(QuantizeFor({}), "", "", true));
  EXPECT_EQ(asked.warnings, warnings);
  // Whoever asks for engines hears of those alone.
  const JobSnapshot named =
      Must(bench_.table().Submit(QuantizeFor({Engine::kTransformers}), "", "", true));
  EXPECT_THAT(named.warnings, Each(Not(HasSubstr("llama-cpp"))));
}

// The types of such weights are not read, and the method says why.
TEST_F(InspectJobTest, AMethodThatIsNotReadIsNamedBeforeItsTypes) {
  Files fp8 = MakeModel({});
  std::string& config = fp8["config.json"];
  config.insert(config.find('{') + 1, R"("quantization_config": {"quant_method": "fp8"}, )");
  std::string& weights = fp8["model.safetensors"];
  for (size_t at = 0; (at = weights.find("\"F16\"", at)) != std::string::npos;) {
    weights.replace(at, 5, "\"F8_E5M2\"");  // It has nine bytes instead of five.
  }
  uint64_t length = weights.find("}}") + 2 - 8;
  for (size_t i = 0; i < 8; ++i, length >>= 8) weights[i] = static_cast<char>(length & 0xff);
  const auto refused =
      bench_.table().Submit(InspectSpec(JobBench::Manifest(fp8, true)), "", "", false);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(DetailsOf(refused.status()).reason, Reason::kUnsupported);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("quant_method is \"fp8\"; expected \"awq\", \"gptq\""));
}

}  // namespace
}  // namespace salient
