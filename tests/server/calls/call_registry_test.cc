#include "server/calls/call_registry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "server/calls/call_messages.h"
#include "server/error/call_error.h"
#include "tests/server/calls/scripted_client.h"

namespace salient {
namespace {

using Script = std::vector<CallMessage>;
using Settings = ScriptedClient::Settings;

TEST(CallRegistryTest, AdmitsNoMoreThanItsLimitAndNothingWhileDraining) {
  CallRegistry::Settings settings;
  settings.workers = 2;
  settings.max_active_calls = 2;
  settings.memory_bytes = int64_t{1} << 30;
  std::vector<std::shared_ptr<ScriptedClient>> clients;
  CallRegistry registry(settings);
  const auto open = [&] {
    auto client = std::make_shared<ScriptedClient>(Script{SmallOptions()}, Settings{true, true});
    auto call = registry.Open(client);
    if (call.ok()) {
      client->Attach(*call);
      (*call)->Start();
      clients.push_back(client);
    }
    return call.status();
  };
  EXPECT_TRUE(open().ok());
  EXPECT_TRUE(open().ok());
  const absl::Status busy = open();
  EXPECT_EQ(busy.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DetailsOf(busy).reason, Reason::kBusy);
  EXPECT_TRUE(DetailsOf(busy).retry_after.has_value());
  EXPECT_EQ(registry.GetStats().active_calls, 2);

  registry.Drain();
  EXPECT_EQ(DetailsOf(open()).reason, Reason::kDraining);
  EXPECT_FALSE(registry.WaitUntilIdle(absl::Milliseconds(1)));
  registry.EndAll();
  for (const auto& client : clients) {
    EXPECT_EQ(client->Wait().code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_TRUE(registry.WaitUntilIdle(absl::InfiniteDuration()));
  EXPECT_EQ(registry.GetStats().active_calls, 0);
}

TEST(CallRegistryTest, ItsWatchEndsIdleCalls) {
  CallRegistry::Settings settings;
  settings.memory_bytes = int64_t{1} << 30;
  settings.call.idle_timeout = absl::Milliseconds(20);
  CallRegistry registry(settings);
  auto client = std::make_shared<ScriptedClient>(Script{}, Settings{true, true});
  auto call = registry.Open(client);
  ASSERT_TRUE(call.ok());
  client->Attach(*call);
  (*call)->Start();
  EXPECT_EQ(DetailsOf(client->Wait()).reason, Reason::kClientIdle);
}

}  // namespace
}  // namespace salient
