// Checks what a call waits for, and how long: memory of its own, that of others, and its client.
#include "server/calls/call_limits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "core/parallel/executor.h"
#include "server/calls/call_input.h"
#include "server/calls/call_messages.h"
#include "server/error/call_error.h"
#include "tests/server/calls/house.h"
#include "tests/server/calls/scripted_client.h"

namespace salient {
namespace {

// Has room for about two groups of SmallCall, so that results nobody reads fill it.
CallLimits TightLimits() {
  CallLimits limits;
  CallOptions options = SmallOptions();
  CallInput input(limits, 2);
  SerialExecutor executor;
  EXPECT_TRUE(input.Take(options, executor).ok());
  const auto bytes = input.MemoryBytes(SmallSpec("largest", 16 + 8 * 30));
  EXPECT_TRUE(bytes.ok());
  limits.call_memory_bytes = *bytes + 1000;
  return limits;
}

TEST(CallLimitsTest, ReadingStopsAtTheBudgetAndGoesOnWhenResultsAreRead) {
  House house;
  const auto client = house.Open(SmallCall(30), {/*reads_results=*/false, false}, TightLimits());
  const int64_t limit = TightLimits().call_memory_bytes;
  int64_t most = 0;
  while (!client->finished()) {
    most = std::max(most, house.memory.reserved_bytes());
    client->ReadResults();
    std::this_thread::yield();
  }
  EXPECT_TRUE(client->Wait().ok()) << client->Wait();
  EXPECT_EQ(client->groups().size(), 30u);
  EXPECT_LE(most, limit);
  EXPECT_GT(most, 0);
}

// Nothing would ever make room for it: it must not wait.
TEST(CallLimitsTest, AStatisticsFileThatDoesNotFitBesideItsGroupIsRefused) {
  House house;
  std::vector<CallMessage> script = {SmallOptions(), SmallSpec("g", 16 + 8 * 30),
                                     StatisticsData{{0, "x", {}}, 4096}};
  const auto client = house.Open(std::move(script), {true, true}, TightLimits());
  const absl::Status status = client->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(DetailsOf(status).reason, Reason::kMemory);
  House::WaitFor([&] { return house.memory.reserved_bytes() == 0; });
}

TEST(CallLimitsTest, AClientThatNeverReadsIsToldSo) {
  House house;
  const auto client = house.Open(SmallCall(30), {/*reads_results=*/false, false}, TightLimits());
  // The clock is ours: 31 s from now, again and again, until the budget is full.
  while (!client->finished()) {
    house.call->Tick(absl::Now() + absl::Seconds(31));
    std::this_thread::yield();
  }
  const absl::Status status = client->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_EQ(DetailsOf(status).reason, Reason::kClientNotReading);
  EXPECT_GT(client->messages_left(), 0u) << "reading did not stop";
  House::WaitFor([&] { return house.memory.reserved_bytes() == 0; });
}

TEST(CallLimitsTest, ResultsThatFitMayWaitLonger) {
  House house;
  const auto client = house.Open(SmallCall(2), {/*reads_results=*/false, false});
  House::WaitFor([&] { return house.call->Summary().groups == 2; });
  house.call->Tick(absl::Now() + absl::Seconds(500));
  EXPECT_FALSE(client->finished());
  house.call->Tick(absl::Now() + absl::Seconds(601));
  EXPECT_EQ(DetailsOf(client->Wait()).reason, Reason::kClientNotReading);
}

TEST(CallLimitsTest, ASilentClientIsIdleAfterItsTime) {
  House house;
  const auto client = house.Open({SmallOptions(), SmallSpec("g")}, {true, /*stays_silent=*/true});
  House::WaitFor([&] { return house.memory.reserved_bytes() > 0; });
  house.call->Tick(absl::Now() + absl::Seconds(599));
  EXPECT_FALSE(client->finished());
  while (!client->finished()) house.call->Tick(absl::Now() + absl::Seconds(601));
  const absl::Status status = client->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(DetailsOf(status).reason, Reason::kClientIdle);
  House::WaitFor([&] { return house.memory.reserved_bytes() == 0; });
}

TEST(CallLimitsTest, AGroupWaitsForTheMemoryOfOthersAndIsRefusedAfterAWhile) {
  House house(2, /*memory_bytes=*/int64_t{64} << 20);
  auto others = house.memory.TryReserve(house.memory.limit_bytes());
  ASSERT_TRUE(others.has_value());
  CallLimits limits;
  limits.call_memory_bytes = house.memory.limit_bytes();

  const auto waits = house.Open(SmallCall(1), {}, limits);
  const auto waiting = house.call;
  const auto refused = house.Open(SmallCall(1), {}, limits);
  while (!refused->finished()) house.call->Tick(absl::Now() + absl::Seconds(31));
  const absl::Status status = refused->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(DetailsOf(status).reason, Reason::kBusy);
  EXPECT_TRUE(DetailsOf(status).retry_after.has_value());

  EXPECT_FALSE(waits->finished());
  others.reset();
  while (!waits->finished()) waiting->Tick(absl::Now());
  EXPECT_TRUE(waits->Wait().ok()) << waits->Wait();
}

}  // namespace
}  // namespace salient
