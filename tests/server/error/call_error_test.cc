#include "server/error/call_error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace salient {
namespace {

TEST(CallErrorTest, EveryReasonHasANameOfItsOwnAtItsPlace) {
  std::set<absl::string_view> names;
  int index = 0;
  for (const Reason reason : AllReasons()) {
    EXPECT_EQ(static_cast<int>(reason), index++);
    EXPECT_TRUE(names.insert(Name(reason)).second) << Name(reason);
  }
  EXPECT_EQ(Name(Reason::kMessageOrder), "MESSAGE_ORDER");
  EXPECT_EQ(Name(Reason::kInternal), "INTERNAL");
  EXPECT_EQ(AllReasons().back(), Reason::kInternal);
}

TEST(CallErrorTest, PayloadsComeBackAsTheyWent) {
  absl::Status status = InvalidCall(Reason::kBadShape, "message");
  status = WithField(status, "group.linears[1].out_features");
  status = WithMetadata(status, "tensor", "a.weight");
  status = WithMetadata(status, "tensor", "later");
  status = WithMetadata(status, "group", "a");
  status = WithRetryAfter(status, absl::Milliseconds(1500));
  status = WithQuota(status, "call_memory_bytes");
  status = WithReason(status, Reason::kInternal);  // The first reason stays.
  const CallErrorDetails details = DetailsOf(status);
  EXPECT_EQ(status.message(), "message");
  EXPECT_EQ(details.reason, Reason::kBadShape);
  EXPECT_EQ(details.field, "group.linears[1].out_features");
  EXPECT_EQ(details.metadata,
            (std::map<std::string, std::string>{{"tensor", "a.weight"}, {"group", "a"}}));
  EXPECT_EQ(details.retry_after, absl::Milliseconds(1500));
  EXPECT_EQ(details.quota, "call_memory_bytes");
}

TEST(CallErrorTest, AStatusWithoutPayloadsHasTheReasonOfItsCode) {
  EXPECT_EQ(DetailsOf(absl::CancelledError("x")).reason, Reason::kCancelled);
  EXPECT_EQ(DetailsOf(absl::DeadlineExceededError("x")).reason, Reason::kDeadlineExceeded);
  EXPECT_EQ(DetailsOf(absl::InvalidArgumentError("x")).reason, Reason::kInternal);
}

TEST(CallErrorTest, OkStaysOk) {
  EXPECT_EQ(WithField(WithReason(absl::OkStatus(), Reason::kInternal), "f"), absl::OkStatus());
}

}  // namespace
}  // namespace salient
