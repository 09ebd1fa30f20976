// Specs of jobs that are refused, with the field at fault.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>

#include "server/error/call_error.h"
#include "server/rpc/convert/job_spec.h"
#include "tests/server/rpc/convert/job_spec_messages.h"

namespace salient {
namespace {

using testing::AddFile;
using testing::EvaluateSpec;
using ::testing::HasSubstr;
using testing::QuantizeSpec;

struct RefusedSpec {
  const char* name;
  std::function<void(v1::JobSpec&)> spoil;
  Reason reason;
  const char* field;
  const char* says;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

const RefusedSpec kRefusedSpec[] = {
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
    {"TokenName",
     [](v1::JobSpec& s) {
       s.mutable_quantize()->mutable_calibration()->mutable_tokens()->set_name("a\nb");
     },
     Reason::kBadPath, "spec.quantize.calibration.tokens.name", "control"},
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

class RefusedSpecTest : public ::testing::TestWithParam<RefusedSpec> {};
INSTANTIATE_TEST_SUITE_P(Specs, RefusedSpecTest, ::testing::ValuesIn(kRefusedSpec),
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

}  // namespace
}  // namespace salient
