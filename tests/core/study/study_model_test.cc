#include "core/study/study_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/group/quantize_group.h"
#include "core/group/round_linears.h"
#include "core/linalg/gemm.h"
#include "core/method/salient_fp16.h"
#include "core/model/activations.h"
#include "core/quantize/quantize_model.h"
#include "core/safetensors/safetensors.h"
#include "core/source/nearest_source.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/small_model.h"
#include "tests/support/altered_source.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Must;
using testing::SmallModel;
using testing::TestsDirectory;
using TokenRows = std::vector<std::vector<int64_t>>;

constexpr size_t kNone = 0;
constexpr size_t kActivation = 3;

class Listener final : public StudyObserver {
 public:
  absl::Status Kept(const std::string& group, const std::string& why) override {
    kept[group] = why;
    return absl::OkStatus();
  }
  absl::Status Calibrated(int64_t block, int64_t count) override {
    EXPECT_FALSE(evaluates);
    calibrated[block] += count;
    return fail_calibration ? absl::UnavailableError("nobody listens") : absl::OkStatus();
  }
  absl::Status Evaluates() override {
    evaluates = true;
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t block, int64_t count) override {
    EXPECT_TRUE(evaluates);
    evaluated[block] += count;
    return absl::OkStatus();
  }

  std::map<std::string, std::string> kept;
  std::map<int64_t, int64_t> calibrated;
  std::map<int64_t, int64_t> evaluated;
  bool evaluates = false;
  bool fail_calibration = false;
};

class Losses final : public QuantizedModelSink {
 public:
  absl::Status TensorsDone(int64_t, size_t, std::vector<NamedTensor>) override {
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t, const GroupReport& report) override {
    sum += report.relative_output_error_rtn;
    ++groups;
    return absl::OkStatus();
  }
  absl::Status Kept(size_t, const std::string&, const std::string&) override {
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t, int64_t) override { return absl::OkStatus(); }

  double sum = 0;
  int groups = 0;
};

// Returns all that tells two studies apart.
std::vector<double> Numbers(const ModelStudy& study) {
  std::vector<double> numbers;
  const auto add = [&numbers](const ModelEvaluation& evaluation) {
    numbers.push_back(evaluation.likelihood.negative_log_likelihood);
    numbers.push_back(evaluation.divergence.kl);
    numbers.push_back(static_cast<double>(evaluation.divergence.agreements));
    numbers.insert(numbers.end(), evaluation.layer_errors.begin(), evaluation.layer_errors.end());
  };
  add(study.source);
  for (const StudyRow& row : study.rows) {
    add(row.evaluation);
    numbers.push_back(row.relative_output_error);
  }
  return numbers;
}

class StudyModelTest : public ::testing::Test {
 protected:
  StudyModelTest()
      : work_(::testing::TempDir() + "study." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    LimitThreadToItself();
    std::filesystem::remove_all(work_);
    std::filesystem::create_directories(work_);
    params_.work_directory = work_;
    params_.compute = ComputeDType::kF32;
    params_.block.format.group_size = 4;
    params_.block.salient_share = 0.1;
  }
  ~StudyModelTest() override {
    EXPECT_TRUE(std::filesystem::is_empty(work_)) << "hidden states were left behind";
    std::filesystem::remove_all(work_);
  }

  absl::StatusOr<ModelStudy> Study(const SmallModel& model, Executor& executor) {
    return StudyModel(model.checkpoint, model.plan, calibration_, evaluation_, params_, listener_,
                      executor);
  }

  static SmallModel Model(const std::string& name) {
    return SmallModel(TestsDirectory() + "golden/forward/" + name);
  }

  std::string work_;
  StudyModelParams params_;
  Listener listener_;
  SerialExecutor serial_;
  const TokenRows calibration_ = {{1, 2, 3, 4, 5, 6, 7, 8, 9}, std::vector<int64_t>(70, 11), {20}};
  const TokenRows evaluation_ = {{30, 20, 10, 3, 2, 1}, {9, 8}};
};

TEST_F(StudyModelTest, WithoutChannelsItIsRoundToNearest) {
  const SmallModel model = Model("grouped_query");
  const ModelStudy study = Must(Study(model, serial_));
  const auto nearest =
      Must(RoundToNearestSource(model.checkpoint, model.plan, params_.block.format));
  Listener listener;
  listener.evaluates = true;
  const auto expected = Must(EvaluateModels(
      std::vector<EvaluatedModel>{{&model.checkpoint, &model.plan}, {nearest.get(), &model.plan}},
      evaluation_, work_, listener, serial_));
  EXPECT_EQ(study.source.likelihood.negative_log_likelihood,
            expected[0].likelihood.negative_log_likelihood);
  const StudyRow& none = study.rows[kNone];
  EXPECT_EQ(none.evaluation.likelihood.negative_log_likelihood,
            expected[1].likelihood.negative_log_likelihood);
  EXPECT_EQ(none.evaluation.divergence.kl, expected[1].divergence.kl);
  EXPECT_EQ(none.evaluation.layer_errors, expected[1].layer_errors);
  EXPECT_GT(none.evaluation.divergence.kl, 0);

  // The block loop's own loss of round-to-nearest, whose energy is to 1e-3.
  QuantizeModelParams quantize;
  quantize.method = kPlainRounding;
  quantize.outputs = {{params_.block.format, OutputFormat::kDequantizedFp16}};
  quantize.compute = params_.compute;
  quantize.work_directory = work_ + "/quantize";
  std::filesystem::create_directories(quantize.work_directory);
  Losses losses;
  const absl::Status status =
      QuantizeModel(model.checkpoint, model.plan, calibration_, quantize, losses, serial_);
  ASSERT_TRUE(status.ok()) << status;
  std::filesystem::remove_all(quantize.work_directory);
  EXPECT_NEAR(none.relative_output_error / (losses.sum / losses.groups), 1, 2e-3);
}

TEST_F(StudyModelTest, RowsStandInTheirOrderAndEveryTokenIsTold) {
  const ModelStudy study = Must(Study(Model("plain"), serial_));
  std::vector<SalientChoice> choices;
  for (const StudyRow& row : study.rows) {
    choices.push_back(row.choice);
    EXPECT_EQ(row.evaluation.likelihood.tokens, 6);
    EXPECT_GT(row.evaluation.divergence.kl, 0);
    EXPECT_GT(row.relative_output_error, 0);
  }
  EXPECT_THAT(choices, ElementsAre(SalientChoice::kNone, SalientChoice::kWeight,
                                   SalientChoice::kRandom, SalientChoice::kActivation));
  EXPECT_LT(study.rows[kActivation].relative_output_error, study.rows[kNone].relative_output_error);
  EXPECT_EQ(listener_.calibrated, (std::map<int64_t, int64_t>{{0, 80}, {1, 80}}));
  EXPECT_EQ(listener_.evaluated, (std::map<int64_t, int64_t>{{0, 8}, {1, 8}, {2, 8}}));
  EXPECT_TRUE(listener_.kept.empty());
}

TEST_F(StudyModelTest, AllChannelsKeptAreTheSourceInF16) {
  params_.block.salient_share = 1;
  const ModelStudy study = Must(Study(Model("plain"), serial_));
  EXPECT_GT(study.rows[kNone].evaluation.divergence.kl, 0);
  for (size_t c = kNone + 1; c < kStudiedChoices; ++c) {
    const StudyRow& row = study.rows[c];
    // The weights of these models are F32: what F16 does to them is small, not nothing.
    EXPECT_LT(row.relative_output_error, 1e-6);
    EXPECT_LT(row.evaluation.divergence.kl, 1e-4 * study.rows[kNone].evaluation.divergence.kl);
    EXPECT_EQ(row.evaluation.divergence.kl, study.rows[kActivation].evaluation.divergence.kl);
  }
}

TEST_F(StudyModelTest, TheExecutorLeavesNoTrace) {
  const SmallModel model = Model("all_together");
  testing::ThreadExecutor threads(2);
  params_.compute = ComputeDType::kBF16;
  const ModelStudy one = Must(Study(model, serial_));
  listener_ = Listener();
  const ModelStudy two = Must(Study(model, threads));
  EXPECT_EQ(Numbers(one), Numbers(two));
}

TEST_F(StudyModelTest, TheSeedIsOfTheRandomChoiceAlone) {
  const SmallModel model = Model("plain");
  const ModelStudy one = Must(Study(model, serial_));
  params_.block.seed = 1;
  listener_ = Listener();
  const ModelStudy two = Must(Study(model, serial_));
  for (size_t c = 0; c < kStudiedChoices; ++c) {
    const double a = one.rows[c].evaluation.divergence.kl;
    const double b = two.rows[c].evaluation.divergence.kl;
    EXPECT_EQ(a == b, kSalientChoices[c] != SalientChoice::kRandom) << c;
  }
}

TEST_F(StudyModelTest, AGroupThatTheFormatCannotHoldStays) {
  const SmallModel model = Model("columns_172");
  params_.block.format.group_size = 16;
  const ModelStudy study = Must(Study(model, serial_));
  ASSERT_EQ(listener_.kept.size(), 1u);
  EXPECT_EQ(listener_.kept.begin()->first, "mlp.down_proj");
  EXPECT_THAT(listener_.kept.begin()->second, HasSubstr("172"));
  EXPECT_GT(study.rows[kNone].evaluation.divergence.kl, 0);
}

TEST_F(StudyModelTest, WhatCannotBeStudiedIsRefusedByName) {
  const SmallModel model = Model("plain");
  const auto error = [&](const TokenRows& calibration, const TokenRows& evaluation,
                         const StudyModelParams& params) {
    const absl::Status status = StudyModel(model.checkpoint, model.plan, calibration, evaluation,
                                           params, listener_, serial_)
                                    .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error({}, evaluation_, params_), HasSubstr("calibration has 0 rows"));
  EXPECT_THAT(error({{1}, {}}, evaluation_, params_), HasSubstr("calibration row 1 has 0 tokens"));
  EXPECT_THAT(error({{1, 40}}, evaluation_, params_),
              HasSubstr("calibration row 0: token at position 1 is 40; expected 0 to 39"));
  EXPECT_THAT(error(calibration_, {}, params_), HasSubstr("evaluation has 0 rows"));
  EXPECT_THAT(error(calibration_, {{1}}, params_), HasSubstr("evaluation row 0 has 1 tokens"));
  EXPECT_THAT(error(calibration_, {{1, -1}}, params_), HasSubstr("position 1 is -1"));
  StudyModelParams params = params_;
  for (const double share : {-0.5, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    params.block.salient_share = share;
    EXPECT_THAT(error(calibration_, evaluation_, params), HasSubstr("salient_share is"));
  }
  params = params_;
  params.block.format.bits = 9;
  EXPECT_THAT(error(calibration_, evaluation_, params), HasSubstr("bits is 9; expected 2 to 8"));
  params = params_;
  params.block.format.group_size = kWholeTensor;
  EXPECT_THAT(error(calibration_, evaluation_, params), HasSubstr("group_size is -2"));
  params.block.format.group_size = 1000;
  EXPECT_THAT(error(calibration_, evaluation_, params), HasSubstr("nothing to quantize"));
  EXPECT_TRUE(listener_.calibrated.empty()) << "all of it is known before any work";
}

TEST_F(StudyModelTest, AnErrorOfTheObserverEndsIt) {
  listener_.fail_calibration = true;
  EXPECT_EQ(Study(Model("plain"), serial_).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(listener_.evaluates);
}

TEST_F(StudyModelTest, AWeightThatIsNotFiniteIsNamed) {
  const SmallModel model = Model("plain");
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const TensorEntry entry = *Must(model.checkpoint.Find(name)).entry;
  NamedTensor weight{
      name, entry.dtype, entry.shape,
      std::vector<std::byte>(static_cast<size_t>(entry.SizeBytes()), std::byte{0xFF})};
  testing::AlteredSource altered(model.checkpoint);
  altered.Put(std::move(weight));
  const absl::Status status =
      StudyModel(altered, model.plan, calibration_, evaluation_, params_, listener_, serial_)
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(name + ": element [0, 0]"));
}

}  // namespace
}  // namespace salient
