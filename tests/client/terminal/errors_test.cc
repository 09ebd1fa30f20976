#include "client/terminal/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/error_details.h"

namespace salient::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAddress[] = "quant.example:8443";

template <typename... Details>
grpc::Status StatusWith(grpc::StatusCode code, const std::string& message,
                        const Details&... details) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  (status.add_details()->PackFrom(details), ...);
  grpc::Status result;
  grpc::SetErrorDetails(status, &result);
  return result;
}

google::rpc::ErrorInfo Info(const std::string& reason,
                            std::initializer_list<std::pair<const char*, const char*>> metadata) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("salient.v1");
  for (const auto& [name, value] : metadata) (*info.mutable_metadata())[name] = value;
  return info;
}

std::string TextOf(const grpc::Status& status) {
  return std::string(FromGrpcStatus(status, kAddress).message());
}

TEST(ErrorsTest, OkStaysOk) {
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK, kAddress).ok());
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
}

TEST(ErrorsTest, AProcessWithoutDescriptorsIsNotToldToTryAgain) {
  const absl::Status status = FromGrpcStatus({grpc::StatusCode::UNAVAILABLE,
                                              "failed to connect to all addresses; last error: "
                                              "UNKNOWN: ipv4:127.0.0.1:1: Too many open files"},
                                             kAddress);
  EXPECT_EQ(ExitCodeOf(status), 70) << status;
}

TEST(ErrorsTest, DetailsAddWhatTheMessageDoesNotSay) {
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("group.linears[1].out_features");
  violation->set_description("is 12; expected a multiple of 8");
  const grpc::Status status =
      StatusWith(grpc::StatusCode::INVALID_ARGUMENT, "Linear \"k_proj\" does not fit awq-gemm", bad,
                 Info("OUT_FEATURES", {{"linear", "k_proj"}, {"row", "row 4"}}));
  EXPECT_EQ(TextOf(status),
            "Linear \"k_proj\" does not fit awq-gemm; group.linears[1].out_features: is 12; "
            "expected a multiple of 8; row: row 4 [OUT_FEATURES]");
  EXPECT_EQ(ExitCodeOf(FromGrpcStatus(status, kAddress)), 42);
}

TEST(ErrorsTest, DetailsThatDoNotParseLeaveTheMessage) {
  const grpc::Status status(grpc::StatusCode::INVALID_ARGUMENT, "no tokens", "\xff\xff garbage");
  EXPECT_EQ(TextOf(status), "no tokens");
}

TEST(ErrorsTest, ResourceExhaustedIsWorthARetryOnlyWithRetryInfo) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(2);
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  const absl::Status busy = FromGrpcStatus(
      StatusWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "8 calls are active", retry), kAddress);
  EXPECT_EQ(ExitCodeOf(busy), 75);
  EXPECT_EQ(ErrorText(busy), "8 calls are active; try again in 2.5 s");
  EXPECT_EQ(busy.message(), "8 calls are active") << "whoever tries again says so";

  google::rpc::QuotaFailure quota;
  quota.add_violations()->set_subject("call:memory");
  quota.mutable_violations(0)->set_description("needs 9 GiB, may have 1 GiB");
  const absl::Status too_large = FromGrpcStatus(
      StatusWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "group too large", quota), kAddress);
  EXPECT_EQ(ExitCodeOf(too_large), 42);
  EXPECT_EQ(too_large.message(), "group too large; call:memory: needs 9 GiB, may have 1 GiB");
}

TEST(ErrorsTest, DrainingServerIsWorthARetry) {
  const grpc::Status draining =
      StatusWith(grpc::StatusCode::UNAVAILABLE, "the server is draining", google::rpc::RetryInfo());
  EXPECT_EQ(ExitCodeOf(FromGrpcStatus(draining, kAddress)), 75);
  EXPECT_EQ(ErrorText(FromGrpcStatus(draining, kAddress)),
            "the server is draining; try again later");
}

TEST(ErrorsTest, UnreachableServerIsNamedWithItsCause) {
  const grpc::Status status(
      grpc::StatusCode::UNAVAILABLE,
      "failed to connect to all addresses; last error: UNKNOWN: "
      "ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused");
  EXPECT_EQ(TextOf(status), "cannot reach a server at quant.example:8443: Connection refused");
  EXPECT_EQ(ExitCodeOf(FromGrpcStatus(status, kAddress)), 69);
  EXPECT_EQ(TextOf({grpc::StatusCode::UNAVAILABLE, "Socket closed"}),
            "the server went away at quant.example:8443: Socket closed");
}

TEST(ErrorsTest, SilentServerIsNamed) {
  const grpc::Status status(grpc::StatusCode::DEADLINE_EXCEEDED, "Deadline Exceeded");
  EXPECT_EQ(TextOf(status), "the server at quant.example:8443 did not answer in time");
  EXPECT_EQ(ExitCodeOf(FromGrpcStatus(status, kAddress)), 69);
}

TEST(ErrorsTest, MessageIsOnePrintableBoundedLine) {
  const std::string text = TextOf({grpc::StatusCode::INVALID_ARGUMENT, "a\x1b[2J\nb"});
  EXPECT_EQ(text, "a [2J b");
  EXPECT_EQ(Printable("ab\xc3\xa9", 3), "ab...");
  EXPECT_EQ(Printable("ab\xc3\xa9", 4), "ab\xc3\xa9");
  EXPECT_LT(TextOf({grpc::StatusCode::INTERNAL, std::string(100'000, 'x')}).size(), 2100u);
}

TEST(ErrorsTest, EveryClassOfErrorHasItsExitCode) {
  const std::pair<absl::StatusCode, int> expected[] = {
      {absl::StatusCode::kInvalidArgument, 42},  {absl::StatusCode::kNotFound, 42},
      {absl::StatusCode::kOutOfRange, 42},       {absl::StatusCode::kFailedPrecondition, 42},
      {absl::StatusCode::kUnimplemented, 42},    {absl::StatusCode::kResourceExhausted, 70},
      {absl::StatusCode::kUnavailable, 69},      {absl::StatusCode::kDeadlineExceeded, 69},
      {absl::StatusCode::kPermissionDenied, 42}, {absl::StatusCode::kAborted, 75},
      {absl::StatusCode::kDataLoss, 75},         {absl::StatusCode::kCancelled, 130},
      {absl::StatusCode::kInternal, 70},         {absl::StatusCode::kUnknown, 70},
  };
  for (const auto& [code, exit_code] : expected) {
    EXPECT_EQ(ExitCodeOf(absl::Status(code, "x")), exit_code) << absl::StatusCodeToString(code);
  }
}

TEST(ErrorsTest, WhatASystemHasNoMoreOfIsNoBadInput) {
  EXPECT_EQ(ExitCodeOf(FromGrpcStatus(
                StatusWith(grpc::StatusCode::RESOURCE_EXHAUSTED,
                           "a: cannot open: Too many open files", Info("INTERNAL", {})),
                kAddress)),
            70);
}

TEST(ErrorsTest, AFullDiskOfOurOwnIsNotWorthARetry) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(60);
  const absl::Status full = FromGrpcStatus(
      StatusWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "out: cannot make room: No space left",
                 Info("SPOOL_FULL", {}), retry),
      kAddress);
  EXPECT_EQ(ExitCodeOf(full), 75) << "others may give back what they hold";
  EXPECT_EQ(ExitCodeOf(WithoutOthers(full)), 70);
  EXPECT_THAT(ErrorText(WithoutOthers(full)), Not(HasSubstr("try again")));
  const absl::Status busy = FromGrpcStatus(
      StatusWith(grpc::StatusCode::UNAVAILABLE, "draining", Info("DRAINING", {}), retry), kAddress);
  EXPECT_EQ(WithoutOthers(busy), busy);
}

TEST(ErrorsTest, WhatOthersCancelledIsNotWorthARetryUnasked) {
  const absl::Status cancelled = CancelledByOthers("jobs/j");
  EXPECT_EQ(ExitCodeOf(cancelled), 76);
  EXPECT_EQ(ErrorText(cancelled), "jobs/j was cancelled by somebody else");
}

TEST(ErrorsTest, TextIsAddedWithoutLosingTheRest) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(2);
  const absl::Status more = WithText(
      FromGrpcStatus(StatusWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "busy", retry), kAddress),
      "; the result is there");
  EXPECT_EQ(ErrorText(more), "busy; the result is there; try again in 2 s");
  EXPECT_EQ(ExitCodeOf(more), 75);
}

TEST(ErrorsTest, MachinesReadAnError) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(2);
  const absl::Status busy = FromGrpcStatus(
      StatusWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "a \"b\"", Info("CALL_LIMIT", {}), retry),
      kAddress);
  EXPECT_EQ(ErrorJson(busy, 75),
            "{\"error\": {\"code\": \"RESOURCE_EXHAUSTED\", \"reason\": \"CALL_LIMIT\", "
            "\"message\": \"a \\\"b\\\" [CALL_LIMIT]\", \"retry_after_seconds\": 2, "
            "\"exit_code\": 75}}");
  EXPECT_EQ(ErrorJson(absl::InternalError("x"), 70),
            "{\"error\": {\"code\": \"INTERNAL\", \"message\": \"x\", \"exit_code\": 70}}");
}

}  // namespace
}  // namespace salient::client
