// Checks models whose config ties the head to the embeddings and whose files have a head.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "core/config/json.h"
#include "core/engines/engine.h"
#include "core/engines/engine_verdict.h"
#include "core/safetensors/safetensors.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using ::testing::Contains;
using testing::Files;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::JobBench;
using testing::MakeModel;
using testing::Must;

constexpr char kWarning[] = "lm_head.weight differs from the embeddings";

Files ModelWithHead(const std::string& head) {
  testing::TinyModel model;
  model.head = head;
  return MakeModel(model);
}

class OwnHeadJobTest : public testing::JobTest {
 protected:
  OwnHeadJobTest() : JobTest(ModelWithHead("own")) {}

  // Returns the result's files by name.
  Files ResultOf(const JobSnapshot& job) {
    Files files;
    for (const ResultFile& file : job.files) files[file.name] = bench_.Read(file);
    return files;
  }
  static bool IsTied(const std::string& config_json) {
    return *Must(ParseJson("config.json", config_json)).Find("tie_word_embeddings")->AsBool();
  }
  static std::string HeadOf(const std::string& safetensors) {
    const SafetensorsView view =
        Must(SafetensorsView::Parse("model.safetensors", testing::AsBytes(safetensors)));
    const auto head = view.Tensor("lm_head.weight");
    if (!head.ok()) return "";
    return std::string(reinterpret_cast<const char*>(head->data()), head->size());
  }
  double Loss(const std::string& model) {
    EvaluateTask task;
    task.tokens.tokens = DigestOf(tokens_);
    return Run(JobBench::Spec(ModelSource{{}, model}, task))
        .evaluation->model.likelihood.negative_log_likelihood;
  }
};

TEST_F(OwnHeadJobTest, IsKeptWhenTheJobComesBeforeItsBlobs) {
  const JobSnapshot job = bench_.Submit(JobBench::Quantize(JobBench::Manifest(model_), tokens_));
  EXPECT_FALSE(job.missing.empty());
  SendAll();
  const JobSnapshot done = bench_.Finish(job.name);
  ASSERT_EQ(done.state, JobState::kSucceeded) << done.error;
  EXPECT_THAT(Warnings(job.name), Contains(HasSubstr(kWarning)));
  const Files result = ResultOf(done);
  EXPECT_FALSE(IsTied(result.at("config.json")));
  EXPECT_EQ(HeadOf(result.at("model.safetensors")), HeadOf(model_.at("model.safetensors")));
}

TEST_F(OwnHeadJobTest, IsKnownBeforeTheJobRunsWhereTheFilesAreThere) {
  SendAll();
  bench_.WriteModel("m", model_);
  for (ModelSource source : {JobBench::Manifest(model_), ModelSource{{}, "m"}}) {
    JobSpec spec = JobBench::Quantize(source, tokens_);
    const std::string output = source.path.empty() ? "of_blobs" : "of_files";
    std::get<QuantizeTask>(spec.task).output_path = output;
    const JobSnapshot job = Must(bench_.table().Submit(spec, "", "", /*validate_only=*/true));
    EXPECT_THAT(job.warnings, Contains(HasSubstr(kWarning)));
    Run(spec);
    bench_.MakeModelOfOutput(output);
    const auto directory = bench_.directory() / "models" / output;
    EXPECT_FALSE(IsTied(testing::FileContent(directory / "config.json")));
    EXPECT_EQ(HeadOf(testing::FileContent(directory / "model.safetensors")),
              HeadOf(model_.at("model.safetensors")));
  }
}

TEST_F(OwnHeadJobTest, IsWhatAModelIsEvaluatedWith) {
  SendAll();
  Files said = model_;
  said["config.json"] = absl::StrReplaceAll(said["config.json"], {{"true", "false"}});
  bench_.WriteModel("own", model_);
  bench_.WriteModel("said", said);
  bench_.WriteModel("none", MakeModel({}));
  EXPECT_EQ(Loss("own"), Loss("said"));
  EXPECT_NE(Loss("own"), Loss("none"));
}

TEST_F(OwnHeadJobTest, OfAnInspectionIsToldBesideTheEngines) {
  bench_.WriteModel("m", model_);
  const JobSnapshot job = Run(JobBench::Spec(ModelSource{{}, "m"}, InspectTask{1}));
  testing::TinyModel with_head;
  with_head.head = "own";
  EXPECT_EQ(job.inspection->parameters, testing::ParametersOf(with_head));
  for (const EngineVerdict& verdict : job.inspection->engines) {
    // vLLM has no attention on CPUs for heads as small as these.
    EXPECT_EQ(verdict.loads(), verdict.engine != Engine::kVllmCpu) << EngineName(verdict.engine);
    if (verdict.engine == Engine::kTgi) {
      EXPECT_THAT(verdict.remarks, Contains(HasSubstr(kWarning)));
    }
  }
}

class CopiedHeadJobTest : public OwnHeadJobTest {};

TEST_F(CopiedHeadJobTest, IsTiedAsEver) {
  const Files copied = ModelWithHead("copy");
  ASSERT_NE(HeadOf(copied.at("model.safetensors")), "");
  bench_.SendAll(copied);
  ASSERT_TRUE(bench_.Send(tokens_).ok());
  const JobSnapshot job = Run(JobBench::Quantize(JobBench::Manifest(copied), tokens_));
  for (const std::string& warning : Warnings(job.name)) {
    EXPECT_FALSE(absl::StrContains(warning, "lm_head")) << warning;
  }
  const Files result = ResultOf(job);
  EXPECT_TRUE(IsTied(result.at("config.json")));
  EXPECT_EQ(HeadOf(result.at("model.safetensors")), "");
}

// The result's config mends what engines refuse of the source's, and a warning tells it.
class RefusedConfigJobTest : public testing::JobTest {
 protected:
  JobSpec SpecOf(const std::string& member) {
    Files model = model_;
    std::string& config = model["config.json"];
    config.insert(1, member + ", ");
    bench_.WriteModel("m", model);
    EXPECT_TRUE(bench_.Send(tokens_).ok());
    JobSpec spec = JobBench::Quantize(ModelSource{{}, "m"}, tokens_);
    std::get<QuantizeTask>(spec.task).output_path = "q";
    return spec;
  }
};

TEST_F(RefusedConfigJobTest, IsMendedWhereItsMeaningIsPlain) {
  const JobSnapshot job = Run(SpecOf(R"("use_cache": null, "note": NaN, "text": "\ud800")"));
  EXPECT_THAT(Warnings(job.name), Contains(HasSubstr("use_cache is null; expected true or false")));
  const std::string config =
      testing::FileContent(bench_.directory() / "outputs" / "q" / "config.json");
  EXPECT_THAT(config, ::testing::Not(HasSubstr("use_cache")));
  EXPECT_THAT(config, HasSubstr("\"note\": NaN"));
  EXPECT_THAT(config, HasSubstr(R"("text": "\ud800")"));
}

TEST_F(RefusedConfigJobTest, IsAnErrorWhereItIsNot) {
  const auto refused = bench_.table().Submit(SpecOf(R"("use_cache": "yes")"), "", "", false);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("use_cache is \"yes\""));
}

TEST_F(RefusedConfigJobTest, LoadsInNoEngineThatUsesTheClass) {
  JobSpec spec = SpecOf(R"("layer_types": ["full_attention"])");
  const JobSnapshot job = Run(JobBench::Spec(spec.model, InspectTask{1}));
  for (const EngineVerdict& verdict : job.inspection->engines) {
    EXPECT_EQ(verdict.loads(), verdict.engine == Engine::kLlamaCpp) << EngineName(verdict.engine);
  }
}

}  // namespace
}  // namespace salient
