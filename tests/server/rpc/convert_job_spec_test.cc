#include "server/rpc/convert_job_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/workers/call_error.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::Digest SomeDigest(int64_t size_bytes = 7) {
  v1::Digest digest;
  digest.set_sha256(std::string(64, 'a'));
  digest.set_size_bytes(size_bytes);
  return digest;
}

v1::ModelFile& AddFile(v1::JobSpec& spec, const std::string& name) {
  v1::ModelFile& file = *spec.mutable_model()->mutable_manifest()->add_files();
  file.set_name(name);
  *file.mutable_digest() = SomeDigest();
  return file;
}

v1::JobSpec QuantizeSpec() {
  v1::JobSpec spec;
  AddFile(spec, "config.json").set_inline_content("{}");
  AddFile(spec, "model.safetensors");
  v1::QuantizeTask& task = *spec.mutable_quantize();
  *task.mutable_calibration()->mutable_tokens()->mutable_tokens() = SomeDigest(9);
  task.add_formats();
  return spec;
}

v1::JobSpec EvaluateSpec() {
  v1::JobSpec spec;
  spec.mutable_model()->set_path("model-awq");
  *spec.mutable_evaluate()->mutable_tokens()->mutable_tokens() = SomeDigest(9);
  spec.mutable_evaluate()->mutable_reference()->set_path("model");
  return spec;
}

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

struct Refused {
  const char* name;
  std::function<void(v1::JobSpec&)> spoil;
  Reason reason;
  const char* field;
  const char* says;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

const Refused kRefused[] = {
    {"NoModel", [](v1::JobSpec& s) { s.clear_model(); }, Reason::kBadJob, "spec.model", "manifest"},
    {"NoTask", [](v1::JobSpec& s) { s.clear_quantize(); }, Reason::kBadJob, "spec.task",
     "quantize"},
    {"EmptyPath", [](v1::JobSpec& s) { s.mutable_model()->set_path(""); }, Reason::kBadPath,
     "spec.model.path", "--model-root"},
    {"PathWithNul", [](v1::JobSpec& s) { s.mutable_model()->set_path(std::string("a\0b", 3)); },
     Reason::kBadPath, "spec.model.path", "control"},
    {"LongPath", [](v1::JobSpec& s) { s.mutable_model()->set_path(std::string(4097, 'x')); },
     Reason::kBadPath, "spec.model.path", "4096"},
    {"FileDigest",
     [](v1::JobSpec& s) {
       s.mutable_model()->mutable_manifest()->mutable_files(1)->mutable_digest()->set_sha256("AB");
     },
     Reason::kBadDigest, "spec.model.manifest.files[1].digest", "64"},
    {"FileTwice", [](v1::JobSpec& s) { AddFile(s, "config.json"); }, Reason::kBadJob,
     "spec.model.manifest.files[2].name", "config.json"},
    {"TooMuchInline",
     [](v1::JobSpec& s) {
       AddFile(s, "big").set_inline_content(std::string(kMaxInlineBytes - 1, 'x'));
     },
     Reason::kBadJob, "spec.model.manifest.files[2].inline_content", "2097152"},
    {"NoCalibration", [](v1::JobSpec& s) { s.mutable_quantize()->clear_calibration(); },
     Reason::kBadJob, "spec.quantize.calibration", "tokens"},
    {"Statistics",
     [](v1::JobSpec& s) {
       s.mutable_quantize()->mutable_calibration()->mutable_statistics()->add_files();
     },
     Reason::kUnsupported, "spec.quantize.calibration.statistics", "tokens", kUnimplemented},
    {"TokenDigest",
     [](v1::JobSpec& s) {
       s.mutable_quantize()->mutable_calibration()->mutable_tokens()->clear_tokens();
     },
     Reason::kBadDigest, "spec.quantize.calibration.tokens.tokens", "sha256"},
    {"MaxRows",
     [](v1::JobSpec& s) {
       s.mutable_quantize()->mutable_calibration()->mutable_tokens()->set_max_rows(-1);
     },
     Reason::kBadJob, "spec.quantize.calibration.tokens.max_rows", "-1"},
    {"Scale",
     [](v1::JobSpec& s) {
       s.mutable_quantize()->mutable_method()->set_scale(static_cast<v1::Scale>(50));
     },
     Reason::kBadMethod, "spec.quantize.method.scale", "50"},
    {"NoFormat", [](v1::JobSpec& s) { s.mutable_quantize()->clear_formats(); }, Reason::kBadJob,
     "spec.quantize.formats", "1 to 8"},
    {"NineFormats",
     [](v1::JobSpec& s) {
       for (int i = 0; i < 8; ++i) s.mutable_quantize()->add_formats();
     },
     Reason::kBadJob, "spec.quantize.formats", "at most 8"},
    {"SecondFormat", [](v1::JobSpec& s) { s.mutable_quantize()->add_formats()->set_bits(1); },
     Reason::kBadFormat, "spec.quantize.formats[1].bits", "2 to 8"},
    {"NegativeErrorLimit",
     [](v1::JobSpec& s) { s.mutable_quantize()->set_max_relative_error(-0.1); }, Reason::kBadJob,
     "spec.quantize.max_relative_error", "0 for no limit"},
    {"ErrorLimitThatIsNoNumber",
     [](v1::JobSpec& s) { s.mutable_quantize()->set_max_relative_error(std::nan("")); },
     Reason::kBadJob, "spec.quantize.max_relative_error", "0 for no limit"},
    {"InfiniteErrorLimit",
     [](v1::JobSpec& s) { s.mutable_quantize()->set_max_relative_error(HUGE_VAL); },
     Reason::kBadJob, "spec.quantize.max_relative_error", "0 for no limit"},
    {"Bits", [](v1::JobSpec& s) { s.mutable_quantize()->mutable_formats(0)->set_bits(9); },
     Reason::kBadFormat, "spec.quantize.formats[0].bits", "2 to 8"},
    {"ThreeBitsOfAwq",
     [](v1::JobSpec& s) { s.mutable_quantize()->mutable_formats(0)->set_bits(3); },
     Reason::kBadFormat, "spec.quantize.formats[0].bits", "gptq-v2 has 3"},
    {"Compute",
     [](v1::JobSpec& s) {
       s.mutable_quantize()->set_compute_dtype(static_cast<v1::ComputeDtype>(7));
     },
     Reason::kBadJob, "spec.quantize.compute_dtype", "7"},
    {"KeepFp16",
     [](v1::JobSpec& s) {
       s.mutable_quantize()->set_non_finite_policy(v1::NON_FINITE_POLICY_KEEP_FP16);
     },
     Reason::kUnsupported, "spec.quantize.non_finite_policy", "REJECT", kUnimplemented},
    {"OutputPath", [](v1::JobSpec& s) { s.mutable_quantize()->set_output_path("a\nb"); },
     Reason::kBadPath, "spec.quantize.output_path", "control"},
    {"ShardBytes", [](v1::JobSpec& s) { s.mutable_quantize()->set_max_shard_bytes(-1); },
     Reason::kBadJob, "spec.quantize.max_shard_bytes", "-1"},
    {"Calibrate", [](v1::JobSpec& s) { s.mutable_calibrate(); }, Reason::kUnsupported,
     "spec.calibrate", "quantize", kUnimplemented},
    {"Study", [](v1::JobSpec& s) { s.mutable_study(); }, Reason::kBadJob, "spec.study.calibration",
     "not set"},
    {"NoTokens", [](v1::JobSpec& s) { s.mutable_evaluate(); }, Reason::kBadJob,
     "spec.evaluate.tokens", "tokens"},
    {"EmptyReference",
     [](v1::JobSpec& s) {
       s = EvaluateSpec();
       s.mutable_evaluate()->mutable_reference()->Clear();
     },
     Reason::kBadJob, "spec.evaluate.reference", "path"},
    {"NothingToRound",
     [](v1::JobSpec& s) {
       s = EvaluateSpec();
       s.mutable_evaluate()->clear_reference();
       s.mutable_evaluate()->mutable_round_to_nearest();
     },
     Reason::kBadJob, "spec.evaluate.round_to_nearest", "reference"},
    {"RoundBits",
     [](v1::JobSpec& s) {
       s = EvaluateSpec();
       s.mutable_evaluate()->mutable_round_to_nearest()->set_bits(1);
     },
     Reason::kBadFormat, "spec.evaluate.round_to_nearest.bits", "2 to 8"},
    {"NegativeTimeout", [](v1::JobSpec& s) { s.mutable_timeout()->set_seconds(-1); },
     Reason::kBadJob, "spec.timeout", "-1"},
    {"NoTimeout", [](v1::JobSpec& s) { s.mutable_timeout(); }, Reason::kBadJob, "spec.timeout",
     "unset"},
    {"Nanos", [](v1::JobSpec& s) { s.mutable_timeout()->set_nanos(1'000'000'000); },
     Reason::kBadJob, "spec.timeout", "1000000000"},
    {"Ttl", [](v1::JobSpec& s) { s.mutable_ttl_after_finished()->set_nanos(-1); }, Reason::kBadJob,
     "spec.ttl_after_finished", "-1"},
    {"Forever",
     [](v1::JobSpec& s) { s.mutable_ttl_after_finished()->set_seconds(int64_t{1} << 62); },
     Reason::kBadJob, "spec.ttl_after_finished", "expected 0 to"},
    {"Priority", [](v1::JobSpec& s) { s.set_priority(10); }, Reason::kBadJob, "spec.priority",
     "0 to 9"},
};

class RefusedSpecTest : public testing::TestWithParam<Refused> {};
INSTANTIATE_TEST_SUITE_P(Specs, RefusedSpecTest, testing::ValuesIn(kRefused),
                         [](const auto& refused) { return std::string(refused.param.name); });

TEST_P(RefusedSpecTest, NamesTheFieldTheValueAndWhatWasExpected) {
  v1::JobSpec message = QuantizeSpec();
  GetParam().spoil(message);
  const absl::Status status = ToJobSpec(message).status();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  const CallErrorDetails details = DetailsOf(status);
  EXPECT_EQ(Name(details.reason), Name(GetParam().reason)) << status;
  EXPECT_EQ(details.field, GetParam().field);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().says));
}

TEST(ConvertJobSpecTest, NamesThatLeadElsewhereAreRefused) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("../a"), std::string("a/b"),
        std::string("/a"), std::string("a\\b"), std::string("a\0b", 3), std::string("a\nb"),
        std::string("\x7F"), std::string(256, 'n')}) {
    v1::JobSpec message = QuantizeSpec();
    AddFile(message, name);
    const absl::Status status = ToJobSpec(message).status();
    EXPECT_EQ(DetailsOf(status).field, "spec.model.manifest.files[2].name") << name;
  }
  v1::JobSpec message = QuantizeSpec();
  AddFile(message, ".gitattributes");
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
  v1::JobSpec spoilt = message;  // a task that reads the weights
  *spoilt.mutable_quantize() = QuantizeSpec().quantize();
  EXPECT_EQ(refused_field(spoilt), field);
  spoilt = message;
  spoilt.mutable_model()->mutable_manifest()->mutable_files(1)->clear_inline_content();
  EXPECT_EQ(refused_field(spoilt), field);
  spoilt = message;
  spoilt.mutable_model()->mutable_manifest()->mutable_files(1)->mutable_digest()->set_size_bytes(
      -1);
  EXPECT_EQ(refused_field(spoilt), field);
  spoilt = message;  // no weights: all of it is read
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
