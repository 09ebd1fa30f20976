#include "client/errors.h"

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
  EXPECT_EQ(busy.message(), "8 calls are active; try again in 2.5 s");

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
  EXPECT_EQ(TextOf(draining), "the server is draining; try again later");
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
      {absl::StatusCode::kUnimplemented, 42},    {absl::StatusCode::kResourceExhausted, 42},
      {absl::StatusCode::kUnavailable, 69},      {absl::StatusCode::kDeadlineExceeded, 69},
      {absl::StatusCode::kPermissionDenied, 42}, {absl::StatusCode::kAborted, 75},
      {absl::StatusCode::kDataLoss, 75},         {absl::StatusCode::kCancelled, 130},
      {absl::StatusCode::kInternal, 70},         {absl::StatusCode::kUnknown, 70},
  };
  for (const auto& [code, exit_code] : expected) {
    EXPECT_EQ(ExitCodeOf(absl::Status(code, "x")), exit_code) << absl::StatusCodeToString(code);
  }
}

}  // namespace
}  // namespace salient::client
