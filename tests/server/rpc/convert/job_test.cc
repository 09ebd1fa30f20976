#include "server/rpc/convert/job.h"

#include <google/protobuf/util/time_util.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/tensor/dtype.h"
#include "google/rpc/error_details.pb.h"
#include "server/error/call_error.h"
#include "server/store/digest.h"

namespace salient {
namespace {

using ::google::protobuf::util::TimeUtil;

v1::JobSpec SomeSpec() {
  v1::JobSpec spec;
  v1::ModelFile& file = *spec.mutable_model()->mutable_manifest()->add_files();
  file.set_name("config.json");
  file.set_inline_content("{}");
  spec.mutable_evaluate()->mutable_reference()->mutable_manifest()->add_files()->set_name("x");
  spec.set_priority(3);
  return spec;
}

JobSnapshot SomeJob() {
  JobSnapshot job;
  job.name = "jobs/a";
  job.serialized_spec = SomeSpec().SerializeAsString();
  job.state = JobState::kRunning;
  job.estimate = {1, 2.5, 3.5, 4};
  job.missing = {DigestOf("missing")};
  job.files = {{"model.safetensors", DigestOf("file"), {DigestOf("fi"), DigestOf("le")}}};
  job.provisional = true;
  job.revision = 12;
  job.create_time = absl::FromUnixMillis(1500);
  job.numerics_id = "n";
  job.usage = {0.5, 6, 7, 8, 9};
  return job;
}

TEST(ConvertJobTest, AJobTakesEveryField) {
  const v1::Job message = ToProto(SomeJob());
  EXPECT_EQ(message.name(), "jobs/a");
  EXPECT_EQ(message.spec().SerializeAsString(), SomeSpec().SerializeAsString());
  EXPECT_EQ(message.state(), v1::JOB_STATE_RUNNING);
  EXPECT_FALSE(message.has_error());
  EXPECT_EQ(message.estimate().peak_memory_bytes(), 1);
  EXPECT_EQ(message.estimate().flop(), 2.5);
  EXPECT_EQ(message.estimate().seconds(), 3.5);
  EXPECT_EQ(message.estimate().output_bytes(), 4);
  ASSERT_EQ(message.missing_size(), 1);
  EXPECT_EQ(message.missing(0).sha256(), HexSha256(DigestOf("missing")));
  EXPECT_EQ(message.missing(0).size_bytes(), 7);
  ASSERT_EQ(message.files_size(), 1);
  EXPECT_EQ(message.files(0).name(), "model.safetensors");
  ASSERT_EQ(message.files(0).parts_size(), 2);
  EXPECT_EQ(message.files(0).parts(1).sha256(), HexSha256(DigestOf("le")));
  EXPECT_TRUE(message.provisional());
  EXPECT_EQ(message.revision(), 12);
  EXPECT_EQ(TimeUtil::TimestampToMilliseconds(message.create_time()), 1500);
  EXPECT_FALSE(message.has_start_time());
  EXPECT_FALSE(message.has_end_time());
  EXPECT_EQ(message.numerics_id(), "n");
  EXPECT_FALSE(message.has_evaluation());
  EXPECT_EQ(message.usage().seconds(), 0.5);
  EXPECT_EQ(message.usage().peak_memory_bytes(), 6);
  EXPECT_EQ(message.usage().parameters(), 7);
  EXPECT_EQ(message.usage().bytes_in(), 8);
  EXPECT_EQ(message.usage().bytes_out(), 9);
}

TEST(ConvertJobTest, ASummaryHasNothingThatGrowsWithTheModel) {
  const v1::Job message = ToSummary(SomeJob());
  EXPECT_EQ(message.name(), "jobs/a");
  EXPECT_EQ(message.spec().priority(), 3);
  EXPECT_TRUE(message.spec().model().has_manifest());
  EXPECT_EQ(message.spec().model().manifest().files_size(), 0);
  EXPECT_EQ(message.spec().evaluate().reference().manifest().files_size(), 0);
  EXPECT_EQ(message.missing_size(), 0);
  ASSERT_EQ(message.files_size(), 1);
  EXPECT_EQ(message.files(0).digest().sha256(), HexSha256(DigestOf("file")));
  EXPECT_EQ(message.files(0).parts_size(), 0);
}

TEST(ConvertJobTest, AFailedJobSaysWhy) {
  JobSnapshot job = SomeJob();
  job.state = JobState::kFailed;
  job.error = WithMetadata(InvalidCall(Reason::kBadModel, "tensor t: is wrong"), "tensor", "t");
  job.end_time = absl::FromUnixSeconds(100);
  const v1::Job message = ToProto(job);
  EXPECT_EQ(message.error().code(), 3);
  EXPECT_EQ(message.error().message(), "tensor t: is wrong");
  ASSERT_GE(message.error().details_size(), 1);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(message.error().details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "BAD_MODEL");
  EXPECT_EQ(info.domain(), "salient.v1");
  EXPECT_EQ(info.metadata().at("tensor"), "t");
  EXPECT_EQ(message.end_time().seconds(), 100);
}

TEST(ConvertJobTest, ScoresAreMeansAndAModelAloneHasNoDivergence) {
  JobSnapshot job = SomeJob();
  job.state = JobState::kSucceeded;
  job.evaluation.emplace();
  job.evaluation->model.likelihood = {20, 10};
  v1::Evaluation message = ToProto(job).evaluation();
  EXPECT_DOUBLE_EQ(message.model().perplexity(), std::exp(2.0));
  EXPECT_EQ(message.model().negative_log_likelihood(), 20);
  EXPECT_EQ(message.model().token_count(), 10);
  EXPECT_EQ(message.model().kl(), 0);
  EXPECT_EQ(message.model().top1_agreement(), 0);
  EXPECT_FALSE(message.has_reference());
  EXPECT_FALSE(message.has_round_to_nearest());

  job.evaluation->model.divergence = {5, 4, 10};
  job.evaluation->model.layer_errors = {0.25, 0.5};
  job.evaluation->reference.emplace();
  job.evaluation->round_to_nearest.emplace();
  job.evaluation->round_to_nearest->likelihood = {30, 10};
  message = ToProto(job).evaluation();
  EXPECT_DOUBLE_EQ(message.model().kl(), 0.5);
  EXPECT_DOUBLE_EQ(message.model().top1_agreement(), 0.4);
  ASSERT_EQ(message.model().layer_errors_size(), 2);
  EXPECT_EQ(message.model().layer_errors(1), 0.5);
  EXPECT_EQ(message.reference().perplexity(), 0) << "of no token";
  EXPECT_DOUBLE_EQ(message.round_to_nearest().perplexity(), std::exp(3.0));
}

template <typename What>
v1::JobEvent Converted(What what) {
  JobEvent event;
  event.revision = 5;
  event.time = absl::FromUnixSeconds(9);
  event.what = std::move(what);
  v1::JobEvent message = ToProto(event);
  EXPECT_EQ(message.revision(), 5);
  EXPECT_EQ(message.time().seconds(), 9);
  return message;
}

TEST(ConvertJobTest, EveryKindOfEvent) {
  EXPECT_EQ(Converted(JobState::kCancelled).state_changed(), v1::JOB_STATE_CANCELLED);

  JobProgress progress{JobProgress::Stage::kQuantize, 2, 8, 77, 1.5, absl::Milliseconds(2500)};
  v1::JobEvent message = Converted(progress);
  EXPECT_EQ(message.progress().stage(), v1::Progress::STAGE_QUANTIZE);
  EXPECT_EQ(message.progress().block(), 2);
  EXPECT_EQ(message.progress().block_count(), 8);
  EXPECT_EQ(message.progress().token_count(), 77);
  EXPECT_EQ(message.progress().parameters_per_second(), 1.5);
  EXPECT_EQ(TimeUtil::DurationToMilliseconds(message.progress().eta()), 2500);

  TimedGroupReport group;
  group.report.name = "g";
  group.elapsed = absl::Milliseconds(250);
  group.numerics_id = "bf16/any";
  message = Converted(group);
  EXPECT_EQ(message.group_report().name(), "g");
  EXPECT_EQ(message.group_report().seconds(), 0.25);
  EXPECT_EQ(message.group_report().numerics_id(), "bf16/any");
  EXPECT_FALSE(message.group_report().has_fold_error());
  group.report.fold_error = 0;  // It was folded all the same.
  EXPECT_TRUE(Converted(group).group_report().has_fold_error());
  group.report.fold_error = 2.5e-7;
  EXPECT_EQ(Converted(group).group_report().fold_error(), 2.5e-7);

  message = Converted(TensorReady{"t", DType::kI32, {4, 2}, DigestOf("t"), true, "gptq"});
  EXPECT_EQ(message.tensor_ready().header().name(), "t");
  EXPECT_EQ(message.tensor_ready().directory(), "gptq");
  EXPECT_EQ(message.tensor_ready().header().dtype(), v1::DATA_TYPE_I32);
  EXPECT_EQ(message.tensor_ready().header().shape(0), 4);
  EXPECT_EQ(message.tensor_ready().digest().sha256(), HexSha256(DigestOf("t")));
  EXPECT_TRUE(message.tensor_ready().provisional());

  message = Converted(ResultFile{"f", DigestOf("f"), {DigestOf("p")}});
  EXPECT_EQ(message.file_ready().name(), "f");
  EXPECT_EQ(message.file_ready().parts_size(), 1);

  EXPECT_EQ(Converted(JobWarning{"look"}).warning(), "look");
}

TEST(ConvertJobTest, AHeartbeatRepeatsTheRevision) {
  const v1::JobEvent message = HeartbeatAt(7);
  EXPECT_EQ(message.revision(), 7);
  EXPECT_TRUE(message.has_heartbeat());
}

}  // namespace
}  // namespace salient
