#include "server/rpc/convert/status.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), status.error_code());
  EXPECT_EQ(details.message(), status.error_message());
  return details;
}

// Returns the first detail of a type; a default one, and a failure, if there is none.
template <typename T>
T Find(const google::rpc::Status& status) {
  T found;
  for (const auto& any : status.details()) {
    if (any.UnpackTo(&found)) return found;
  }
  ADD_FAILURE() << "no " << T::descriptor()->full_name();
  return found;
}

TEST(StatusTest, OkHasNoDetails) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).error_details().empty());
}

TEST(StatusTest, CarriesCodeMessageAndEveryDetail) {
  absl::Status status =
      CallError(absl::StatusCode::kResourceExhausted, Reason::kMemory, "too much");
  status = WithField(status, "group.in_features");
  status = WithMetadata(status, "group", "g");
  status = WithRetryAfter(status, absl::Milliseconds(2500));
  status = WithQuota(status, "call_memory_bytes");
  const grpc::Status converted = ToGrpcStatus(status);
  EXPECT_EQ(converted.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(converted.error_message(), "too much");
  const google::rpc::Status details = Details(converted);
  const auto info = Find<google::rpc::ErrorInfo>(details);
  EXPECT_EQ(info.reason(), "MEMORY");
  EXPECT_EQ(info.domain(), "salient.v1");
  EXPECT_EQ(info.metadata().at("group"), "g");
  const auto bad_request = Find<google::rpc::BadRequest>(details);
  EXPECT_EQ(bad_request.field_violations(0).field(), "group.in_features");
  EXPECT_EQ(bad_request.field_violations(0).description(), "too much");
  const auto retry = Find<google::rpc::RetryInfo>(details);
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 500'000'000);
  EXPECT_EQ(Find<google::rpc::QuotaFailure>(details).violations(0).subject(), "call_memory_bytes");
}

TEST(StatusTest, AStatusOfTheCoreBecomesInternal) {
  const grpc::Status converted = ToGrpcStatus(absl::InternalError("oneDNN"));
  EXPECT_EQ(converted.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(Find<google::rpc::ErrorInfo>(Details(converted)).reason(), "INTERNAL");
}

// Else the other end could read none of the details.
TEST(StatusTest, WhatIsNoUtf8IsEscapedWhereverItStands) {
  const std::string half = "\xED\xA0\x80";  // of a pair, as a config may have it
  const std::string escaped = "\\xed\\xa0\\x80";
  absl::Status status = InvalidCall(Reason::kBadModel, absl::StrCat("architecture ", half));
  status = WithField(status, half);
  status = WithQuota(status, half);
  status = WithMetadata(status, "file", half);
  const grpc::Status converted = ToGrpcStatus(status);
  EXPECT_EQ(converted.error_message(), absl::StrCat("architecture ", escaped));
  const google::rpc::Status details = Details(converted);
  EXPECT_EQ(Find<google::rpc::ErrorInfo>(details).metadata().at("file"), escaped);
  const auto violation = Find<google::rpc::BadRequest>(details).field_violations(0);
  EXPECT_EQ(violation.field(), escaped);
  EXPECT_EQ(violation.description(), converted.error_message());
  EXPECT_EQ(Find<google::rpc::QuotaFailure>(details).violations(0).subject(), escaped);
}

TEST(StatusTest, StaysSmallHoweverLongTheNames) {
  std::string message = "x";
  // A two-byte character stands at odd places.
  for (int i = 0; i < 5000; ++i) message += "\xC3\xA4";
  absl::Status status = WithField(InvalidCall(Reason::kBadShape, message), message);
  for (int i = 0; i < 20; ++i) {
    status = WithMetadata(status, absl::StrCat("key", i), std::string(500 + i, 'v'));
  }
  status = WithMetadata(status, "short", "kept");
  const grpc::Status converted = ToGrpcStatus(status);
  EXPECT_LE(converted.error_message().size(), kMaxStatusMessageBytes);
  EXPECT_LE(converted.error_details().size(), kMaxStatusDetailsBytes);
  const auto info = Find<google::rpc::ErrorInfo>(Details(converted));
  EXPECT_EQ(info.reason(), "BAD_SHAPE");
  EXPECT_EQ(info.metadata().at("short"), "kept");
  // Each is there or counted as left out.
  EXPECT_EQ(info.metadata().size() - 1 + std::stoul(info.metadata().at("omitted")), 21u);
  const std::string& cut = converted.error_message();
  ASSERT_EQ(cut.substr(cut.size() - 3), "...");
  EXPECT_EQ(cut.size() % 2, 0u) << "1 + whole characters of 2 + 3: a character was cut";
}

}  // namespace
}  // namespace salient
