#include "server/rpc/convert/job_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <variant>

#include "core/checkpoint/shard_index.h"
#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/store/digest.h"
#include "tests/server/rpc/convert/job_spec_messages.h"

namespace salient {
namespace {

using testing::AddFile;
using ::testing::ElementsAre;
using testing::EvaluateSpec;
using testing::QuantizeSpec;

TEST(ConvertJobSpecTest, UnsetFieldsAreTheContractsDefaults) {
  const auto spec = ToJobSpec(QuantizeSpec());
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->model.files.size(), 2u);
  EXPECT_EQ(spec->model.files[0].name, "config.json");
  EXPECT_EQ(spec->model.files[0].inline_content, "{}");
  EXPECT_EQ(spec->model.files[1].inline_content, std::nullopt);
  EXPECT_EQ(spec->model.files[1].digest.size_bytes, 7);
  EXPECT_EQ(spec->timeout, absl::InfiniteDuration());
  EXPECT_EQ(spec->ttl_after_finished, std::nullopt);
  EXPECT_EQ(spec->priority, 0);
  const auto& task = std::get<QuantizeTask>(spec->task);
  EXPECT_EQ(task.calibration.tokens.size_bytes, 9);
  EXPECT_EQ(task.calibration.max_rows, 0);
  EXPECT_EQ(task.calibration.name, "tokens");
  EXPECT_FALSE(task.calibration.allow_long_rows);
  EXPECT_EQ(task.formats[0].format.bits, 4);
  EXPECT_EQ(task.formats[0].format.group_size, 128);
  EXPECT_EQ(task.formats[0].output, OutputFormat::kAwqGemm);
  EXPECT_EQ(task.compute, ComputeDType::kBF16);
  EXPECT_EQ(task.max_shard_bytes, kDefaultMaxShardBytes);
  EXPECT_FALSE(task.strict);
}

TEST(ConvertJobSpecTest, EveryFieldOfAQuantizeTaskArrives) {
  v1::JobSpec message = QuantizeSpec();
  message.mutable_timeout()->set_seconds(60);
  message.mutable_ttl_after_finished()->set_nanos(500'000'000);
  message.set_priority(9);
  v1::QuantizeTask& sent = *message.mutable_quantize();
  sent.mutable_calibration()->mutable_tokens()->set_max_rows(5);
  sent.mutable_calibration()->mutable_tokens()->set_name("corpus.safetensors");
  sent.mutable_calibration()->mutable_tokens()->set_allow_long_rows(true);
  sent.mutable_method()->set_scale(v1::SCALE_NONE);
  sent.mutable_formats(0)->set_bits(3);
  sent.mutable_formats(0)->set_group_size(64);
  sent.mutable_formats(0)->set_symmetric(true);
  sent.mutable_formats(0)->set_output_format(v1::OUTPUT_FORMAT_DEQUANTIZED_FP16);
  sent.set_compute_dtype(v1::COMPUTE_DTYPE_F32);
  sent.set_strict(true);
  sent.set_output_path("out/here");
  sent.set_max_shard_bytes(1000);
  sent.set_seed(~uint64_t{0});
  sent.add_formats()->set_group_size(32);
  sent.add_overrides()->set_module("a");
  sent.mutable_overrides(0)->set_bits(8);
  sent.mutable_overrides(0)->set_group_size(-1);
  sent.add_overrides()->set_module("b");
  sent.mutable_overrides(1)->set_skip(true);
  sent.set_max_relative_error(0.25);
  const auto spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->timeout, absl::Minutes(1));
  EXPECT_EQ(spec->ttl_after_finished, absl::Milliseconds(500));
  EXPECT_EQ(spec->priority, 9);
  const auto& task = std::get<QuantizeTask>(spec->task);
  EXPECT_EQ(task.calibration.max_rows, 5);
  EXPECT_EQ(task.calibration.name, "corpus.safetensors");
  EXPECT_TRUE(task.calibration.allow_long_rows);
  EXPECT_EQ(task.method.scale, ScaleChoice::kNone);
  EXPECT_EQ(task.formats[0].format.bits, 3);
  EXPECT_EQ(task.formats[0].format.group_size, 64);
  EXPECT_TRUE(task.formats[0].format.symmetric);
  EXPECT_EQ(task.formats[0].output, OutputFormat::kDequantizedFp16);
  EXPECT_EQ(task.compute, ComputeDType::kF32);
  EXPECT_TRUE(task.strict);
  EXPECT_EQ(task.output_path, "out/here");
  EXPECT_EQ(task.max_shard_bytes, 1000);
  EXPECT_EQ(task.seed, ~uint64_t{0});
  ASSERT_EQ(task.formats.size(), 2u);
  EXPECT_EQ(task.formats[1].format.bits, 4);
  EXPECT_EQ(task.formats[1].format.group_size, 32);
  EXPECT_EQ(task.formats[1].output, OutputFormat::kAwqGemm);
  ASSERT_EQ(task.overrides.size(), 2u);
  EXPECT_EQ(task.overrides[0].module, "a");
  EXPECT_EQ(task.overrides[0].bits, 8);
  EXPECT_EQ(task.overrides[0].group_size, -1);
  EXPECT_FALSE(task.overrides[0].skip);
  EXPECT_EQ(task.overrides[1].module, "b");
  EXPECT_EQ(task.overrides[1].bits, 0);
  EXPECT_TRUE(task.overrides[1].skip);
  EXPECT_EQ(task.max_relative_error, 0.25);
}

// Which of them can be is for those who know the model.
TEST(ConvertJobSpecTest, OverridesArriveAsTheyCame) {
  v1::JobSpec message = QuantizeSpec();
  v1::QuantizeTask& sent = *message.mutable_quantize();
  sent.add_overrides();
  v1::ModuleOverride& second = *sent.add_overrides();
  second.set_module("m");
  second.set_bits(16);
  second.set_group_size(-2);
  second.set_skip(true);
  const auto spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto& overrides = std::get<QuantizeTask>(spec->task).overrides;
  ASSERT_EQ(overrides.size(), 2u);
  EXPECT_EQ(overrides[0].module, "");
  EXPECT_EQ(overrides[1].module, "m");
  EXPECT_EQ(overrides[1].bits, 16);
  EXPECT_EQ(overrides[1].group_size, -2);
  EXPECT_TRUE(overrides[1].skip);
}

TEST(ConvertJobSpecTest, AnEvaluateTaskMayRoundItsReference) {
  v1::JobSpec message = EvaluateSpec();
  auto spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->model.path, "model-awq");
  EXPECT_EQ(std::get<EvaluateTask>(spec->task).reference->path, "model");
  EXPECT_EQ(std::get<EvaluateTask>(spec->task).round_to_nearest, std::nullopt);
  EXPECT_FALSE(std::get<EvaluateTask>(spec->task).without_round_to_nearest);

  // 3 bit, though AWQ gemm, the format's default layout, has no such width: nothing is stored.
  message.mutable_evaluate()->mutable_round_to_nearest()->set_bits(3);
  spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(std::get<EvaluateTask>(spec->task).round_to_nearest->format.bits, 3);

  message.mutable_evaluate()->mutable_round_to_nearest()->set_bits(-1);
  spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(std::get<EvaluateTask>(spec->task).without_round_to_nearest);
  EXPECT_EQ(std::get<EvaluateTask>(spec->task).round_to_nearest, std::nullopt);
}

TEST(ConvertJobSpecTest, TheSpecIsKeptAsItCame) {
  const v1::JobSpec message = QuantizeSpec();
  const auto spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok());
  v1::JobSpec back;
  ASSERT_TRUE(back.ParseFromString(spec->serialized));
  EXPECT_EQ(back.SerializeAsString(), message.SerializeAsString());
  EXPECT_EQ(ToJobSpec(QuantizeSpec())->serialized, spec->serialized);
  v1::JobSpec other = message;
  other.mutable_quantize()->set_seed(1);
  EXPECT_NE(ToJobSpec(other)->serialized, spec->serialized);
}

// A hidden name, too: the jobs of a model have no such file.
TEST(ConvertJobSpecTest, NamesThatLeadElsewhereAreRefused) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("../a"), std::string("a/b"),
        std::string("/a"), std::string("a\\b"), std::string("a\0b", 3), std::string("a\nb"),
        std::string("\x7F"), std::string(256, 'n'), std::string(".gitattributes")}) {
    v1::JobSpec message = QuantizeSpec();
    AddFile(message, name);
    const absl::Status status = ToJobSpec(message).status();
    EXPECT_EQ(DetailsOf(status).field, "spec.model.manifest.files[2].name") << name;
  }
  v1::JobSpec message = QuantizeSpec();
  AddFile(message, std::string(255, 'n'));
  AddFile(message, "model..a b\xC3\xA4.json");
  EXPECT_TRUE(ToJobSpec(message).ok()) << ToJobSpec(message).status();
}

TEST(ConvertJobSpecTest, InlineContentIsCountedOverBothModels) {
  v1::JobSpec message = EvaluateSpec();
  v1::ModelFile& first = AddFile(message, "a");
  first.set_inline_content(std::string(kMaxInlineBytes / 2, 'x'));
  v1::ModelFile& second =
      *message.mutable_evaluate()->mutable_reference()->mutable_manifest()->add_files();
  second = first;
  EXPECT_TRUE(ToJobSpec(message).ok()) << ToJobSpec(message).status();
  second.mutable_inline_content()->push_back('x');
  EXPECT_EQ(DetailsOf(ToJobSpec(message).status()).field,
            "spec.evaluate.reference.manifest.files[0].inline_content");
}

// Whoever has a model inspected hashes none of its weights.
TEST(ConvertJobSpecTest, AnInspectionTakesWeightsBySizeWhereTheirHeaderIsInline) {
  v1::JobSpec message;
  AddFile(message, "config.json").set_inline_content("{}");
  v1::ModelFile& weights = AddFile(message, "model.safetensors");
  weights.mutable_digest()->clear_sha256();
  weights.set_inline_content("header");
  message.mutable_inspect();
  const auto spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->model.files[1].digest, (Digest{{}, 7}));

  const auto refused_field = [](const v1::JobSpec& spoilt) {
    const absl::Status status = ToJobSpec(spoilt).status();
    EXPECT_EQ(Name(DetailsOf(status).reason), Name(Reason::kBadDigest)) << status;
    return DetailsOf(status).field;
  };
  const std::string field = "spec.model.manifest.files[1].digest";
  v1::JobSpec spoilt = message;  // This task reads the weights.
  *spoilt.mutable_quantize() = QuantizeSpec().quantize();
  EXPECT_EQ(refused_field(spoilt), field);
  spoilt = message;
  spoilt.mutable_model()->mutable_manifest()->mutable_files(1)->clear_inline_content();
  EXPECT_EQ(refused_field(spoilt), field);
  spoilt = message;
  spoilt.mutable_model()->mutable_manifest()->mutable_files(1)->mutable_digest()->set_size_bytes(
      -1);
  EXPECT_EQ(refused_field(spoilt), field);
  spoilt = message;  // Without weights all of it is read.
  spoilt.mutable_model()->mutable_manifest()->mutable_files(0)->mutable_digest()->clear_sha256();
  EXPECT_EQ(refused_field(spoilt), "spec.model.manifest.files[0].digest");
}

TEST(ConvertJobSpecTest, AListHasAPageAndStates) {
  v1::ListJobsRequest message;
  EXPECT_EQ(ToListRequest(message)->page_size, 50);
  message.set_page_size(1000);
  message.set_page_token("t");
  message.add_states(v1::JOB_STATE_QUEUED);
  message.add_states(v1::JOB_STATE_CANCELLED);
  const auto list = ToListRequest(message);
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->page_size, 1000);
  EXPECT_EQ(list->page_token, "t");
  EXPECT_THAT(list->states, ElementsAre(JobState::kQueued, JobState::kCancelled));

  message.add_states(v1::JOB_STATE_UNSPECIFIED);
  EXPECT_EQ(DetailsOf(ToListRequest(message).status()).field, "states[2]");
  for (const int size : {-1, 1001}) {
    message.set_page_size(size);
    EXPECT_EQ(DetailsOf(ToListRequest(message).status()).field, "page_size");
  }
}

}  // namespace
}  // namespace salient
