#include "server/jobs/evaluate_job.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/checkpoint/tensor_source.h"
#include "core/evaluate/evaluate_model.h"
#include "core/method/method.h"
#include "core/parallel/executor.h"
#include "core/source/nearest_source.h"
#include "core/source/quantized_source.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

using testing::Files;
using testing::JobBench;
using testing::MakeModel;
using testing::MakeTokens;
using testing::Must;

class QuietEvaluation final : public EvaluationObserver {
 public:
  absl::Status TokensDone(int64_t, int64_t) override { return absl::OkStatus(); }
};

// Opens it as evaluate does.
struct Opened : testing::ModelOnDisk {
  explicit Opened(const std::string& directory)
      : ModelOnDisk(directory), plain(Must(OpenQuantizedSource(checkpoint, plan))) {}
  std::unique_ptr<TensorSource> plain;
};

// Returns the fields of an evaluation that tell runs apart.
std::vector<double> NumbersOfEvaluation(const ModelEvaluation& evaluation) {
  std::vector<double> numbers = {evaluation.likelihood.negative_log_likelihood,
                                 static_cast<double>(evaluation.likelihood.tokens),
                                 evaluation.divergence.kl,
                                 static_cast<double>(evaluation.divergence.agreements)};
  numbers.insert(numbers.end(), evaluation.layer_errors.begin(), evaluation.layer_errors.end());
  return numbers;
}

class EvaluateJobTest : public testing::JobTest {
 protected:
  EvaluateJobTest() {
    bench_.WriteModel("m", model_);
    EXPECT_TRUE(bench_.Send(tokens_).ok());
    JobSpec spec = JobBench::Quantize(ModelSource{{}, "m"}, tokens_);
    std::get<QuantizeTask>(spec.task).output_path = "q";
    const JobSnapshot job = Run(spec);
    bench_.MakeModelOfOutput("q");
    for (const ResultFile& file : job.files) {
      quantized_[file.name] = testing::FileContent(bench_.directory() / "models" / "q" / file.name);
    }
  }

  JobSpec Spec(ModelSource model, std::optional<ModelSource> reference) const {
    EvaluateTask task;
    task.tokens.tokens = DigestOf(tokens_);
    task.reference = std::move(reference);
    return JobBench::Spec(std::move(model), task);
  }

  Files quantized_;
};

TEST_F(EvaluateJobTest, GivesWhatTheCoreGivesForPathsAndForBlobs) {
  const Opened source((bench_.directory() / "models" / "m").string());
  const Opened quantized((bench_.directory() / "models" / "q").string());
  WeightFormat format;
  format.group_size = 16;  // as the quantized model's config says
  const auto rounded = Must(RoundToNearestSource(*source.plain, source.plan, format));
  const std::vector<EvaluatedModel> models = {{source.plain.get(), &source.plan},
                                              {quantized.plain.get(), &quantized.plan},
                                              {rounded.get(), &source.plan}};
  QuietEvaluation quiet;
  SerialExecutor executor;
  const auto expected = Must(EvaluateModels(models, testing::RowsOf(tokens_),
                                            bench_.directory().string(), quiet, executor));
  ASSERT_GT(expected[1].divergence.kl, 0);

  bench_.SendAll(model_);
  bench_.SendAll(quantized_);
  const std::pair<ModelSource, ModelSource> sources[] = {
      {ModelSource{{}, "q"}, ModelSource{{}, "m"}},
      {JobBench::Manifest(quantized_, true), JobBench::Manifest(model_)}};
  for (const auto& [model, reference] : sources) {
    const JobSnapshot job = Run(Spec(model, reference));
    ASSERT_TRUE(job.evaluation.has_value());
    EXPECT_EQ(job.usage.parameters, testing::ParametersOf({}));
    EXPECT_EQ(NumbersOfEvaluation(*job.evaluation->reference), NumbersOfEvaluation(expected[0]));
    EXPECT_EQ(NumbersOfEvaluation(job.evaluation->model), NumbersOfEvaluation(expected[1]));
    EXPECT_EQ(NumbersOfEvaluation(*job.evaluation->round_to_nearest),
              NumbersOfEvaluation(expected[2]));
    EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
  }

  // It stands alone, and without the comparison.
  const JobSnapshot alone = bench_.Finish(bench_.Submit(Spec(ModelSource{{}, "q"}, {})).name);
  ASSERT_TRUE(alone.evaluation.has_value()) << alone.error;
  EXPECT_FALSE(alone.evaluation->reference.has_value());
  EXPECT_FALSE(alone.evaluation->round_to_nearest.has_value());
  EXPECT_EQ(alone.evaluation->model.likelihood.negative_log_likelihood,
            expected[1].likelihood.negative_log_likelihood);
  JobSpec without = Spec(ModelSource{{}, "q"}, ModelSource{{}, "m"});
  std::get<EvaluateTask>(without.task).without_round_to_nearest = true;
  const JobSnapshot two = bench_.Finish(bench_.Submit(without).name);
  ASSERT_TRUE(two.evaluation.has_value()) << two.error;
  EXPECT_FALSE(two.evaluation->round_to_nearest.has_value());
  EXPECT_EQ(NumbersOfEvaluation(two.evaluation->model), NumbersOfEvaluation(expected[1]));
}

// config.json of what is evaluated says float16, in which its residual stream has no room.
TEST_F(EvaluateJobTest, WarnsOfWhatPerplexitiesInF32DoNotShow) {
  testing::TinyModel large;
  large.change = [](const std::string& tensor, int64_t, float value) {
    if (tensor == "model.layers.1.mlp.up_proj.weight") return 0.0f;
    const bool residual =
        tensor.find("embed") != tensor.npos || tensor.find("o_proj") != tensor.npos;
    return residual ? 0x1p17f * value : value;
  };
  bench_.WriteModel("large", MakeModel(large));
  EXPECT_TRUE(Warnings(bench_.Submit(Spec(ModelSource{{}, "q"}, {})).name).empty());
  std::vector<std::string> warnings =
      Warnings(bench_.Submit(Spec(ModelSource{{}, "large"}, {})).name);
  ASSERT_EQ(warnings.size(), 1u) << "its config.json says no dtype";
  EXPECT_EQ(warnings[0].find("model.layers.1.mlp.up_proj.weight: every element is 0"), 0u);

  JobSpec quantize = JobBench::Quantize(ModelSource{{}, "large"}, tokens_);
  std::get<QuantizeTask>(quantize.task).output_path = "large-q";
  Run(quantize);
  bench_.MakeModelOfOutput("large-q");
  warnings =
      Warnings(bench_.Submit(Spec(ModelSource{{}, "large-q"}, ModelSource{{}, "large"})).name);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[1].find("perplexities are computed in f32"), warnings[1].npos) << warnings[1];
}

// A directory that was itself rounded to nearest is its own comparison, whatever each Linear has.
TEST_F(EvaluateJobTest, RoundsToNearestEachLinearAsTheModelStoresIt) {
  for (const auto& [output, scale_groups] :
       {std::pair{OutputFormat::kCompressedTensors, int64_t{8}},
        std::pair{OutputFormat::kGptq, int64_t{16}}}) {
    JobSpec quantize = JobBench::Quantize(ModelSource{{}, "m"}, tokens_);
    auto& task = std::get<QuantizeTask>(quantize.task);
    task.method.scale = ScaleChoice::kNone;
    task.method.range = RangeChoice::kMinMax;
    task.method.rounding = RoundingChoice::kNearest;
    task.formats = {{{4, 16, true, DType::kF16}, output}};
    task.overrides = {{"model.layers.0.mlp.down_proj", 8, scale_groups, false},
                      {"model.layers.1.self_attn.o_proj", 0, 0, true}};
    task.output_path = std::string(Name(output));
    quantize.serialized = task.output_path;
    Run(quantize);
    bench_.MakeModelOfOutput(task.output_path);
    const JobSnapshot job = Run(Spec(ModelSource{{}, task.output_path}, ModelSource{{}, "m"}));
    ASSERT_TRUE(job.evaluation.has_value());
    ASSERT_GT(job.evaluation->model.divergence.kl, 0);
    EXPECT_EQ(NumbersOfEvaluation(*job.evaluation->round_to_nearest),
              NumbersOfEvaluation(job.evaluation->model));
  }
}

TEST_F(EvaluateJobTest, WaitsInTheQueueUntilEverythingIsThere) {
  const std::string name = bench_.Submit(Spec(JobBench::Manifest(model_), {})).name;
  const std::string& weights = model_.at("model.safetensors");
  ASSERT_TRUE(bench_.Send(DigestOf(weights), weights, weights.size() - 1).ok());
  bench_.SendAll({{"config.json", model_.at("config.json")},
                  {"tokenizer_config.json", model_.at("tokenizer_config.json")}});
  const JobSnapshot queued = Must(bench_.table().Get(name));
  EXPECT_EQ(queued.state, JobState::kQueued);
  EXPECT_EQ(queued.missing, std::vector<Digest>{DigestOf(weights)});
  bench_.SendAll(model_);
  const JobSnapshot job = bench_.Finish(name);
  EXPECT_EQ(job.state, JobState::kSucceeded) << job.error;
  EXPECT_GT(job.usage.bytes_in, 0);
}

TEST_F(EvaluateJobTest, ModelsThatCannotBeComparedFailWithAReason) {
  testing::TinyModel other;
  other.layers = 2;
  bench_.WriteModel("other", MakeModel(other));
  const JobSnapshot job =
      bench_.Finish(bench_.Submit(Spec(ModelSource{{}, "other"}, ModelSource{{}, "m"})).name);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_TRUE(absl::IsInvalidArgument(job.error)) << job.error;
  EXPECT_EQ(DetailsOf(job.error).reason, Reason::kBadModel);
}

TEST_F(EvaluateJobTest, RowsOfOneTokenAndFormatsOfNoLinearSayWhatIsAtFault) {
  const std::string single = MakeTokens(2, 1, 40, 12);
  ASSERT_TRUE(bench_.Send(single).ok());
  JobSpec spec = Spec(ModelSource{{}, "m"}, ModelSource{{}, "m"});
  auto& task = std::get<EvaluateTask>(spec.task);
  task.tokens.tokens = DigestOf(single);
  absl::Status status = bench_.table().Submit(spec, "", "", false).status();
  EXPECT_EQ(DetailsOf(status).reason, Reason::kBadTokens) << status;
  EXPECT_EQ(DetailsOf(status).field, "evaluate.tokens");
  task.tokens.tokens = DigestOf(tokens_);
  task.round_to_nearest = StoredFormat();
  task.round_to_nearest->format.group_size = 7;
  status = bench_.table().Submit(spec, "", "", false).status();
  EXPECT_EQ(DetailsOf(status).reason, Reason::kBadFormat) << status;
  EXPECT_EQ(DetailsOf(status).field, "evaluate.round_to_nearest");
}

// A result must not go away under the job that reads it.
TEST_F(EvaluateJobTest, BlobsOfADeletedJobStayWhileAnotherReadsThem) {
  bench_.SendAll(model_);
  const JobSnapshot quantize = Run(JobBench::Quantize(JobBench::Manifest(model_), tokens_));
  const int64_t blobs = bench_.store().Usage().blobs;
  // The config of the result is a blob of the job; the weights are uploaded, but for a byte.
  JobSpec spec = Spec(JobBench::Manifest(quantized_), {});
  const std::string name = bench_.Submit(spec).name;
  ASSERT_TRUE(bench_.table().Delete(quantize.name).ok());
  while (bench_.store().Usage().blobs >= blobs) std::this_thread::yield();
  EXPECT_TRUE(bench_.store().Status(DigestOf(quantized_.at("config.json"))).complete);
  const std::string& weights = quantized_.at("model.safetensors");
  ASSERT_TRUE(bench_.Send(weights).ok());
  const JobSnapshot job = bench_.Finish(name);
  EXPECT_EQ(job.state, JobState::kSucceeded) << job.error;
}

}  // namespace
}  // namespace salient
