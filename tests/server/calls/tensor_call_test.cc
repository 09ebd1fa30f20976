#include "server/calls/tensor_call.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "server/error/call_error.h"
#include "tests/server/calls/house.h"
#include "tests/server/calls/scripted_client.h"

namespace salient {
namespace {

using Settings = ScriptedClient::Settings;

TEST(TensorCallTest, GroupsComeBackInOrderAndAreTheCoresOwnForAnyNumberOfWorkers) {
  constexpr int kGroups = 6;
  // The core alone computes what is wanted, on one thread.
  std::vector<ScriptedClient::Group> want;
  for (int i = 0; i < kGroups; ++i) {
    const GroupSpec spec = SmallSpec(absl::StrCat("g", i), 16 + 8 * i);
    SerialExecutor executor;
    StatisticsParams params;
    params.in_features = spec.in_features;
    auto accumulator = StatisticsAccumulator::Create("g", params);
    ASSERT_TRUE(accumulator.ok());
    for (const int row : {0, 1}) {
      const ActivationData batch = SmallRow(spec, row);
      ASSERT_TRUE(accumulator
                      ->Fold(row, 0, DType::kF32,
                             reinterpret_cast<const std::byte*>(batch.data.data()), 8, executor)
                      .ok());
    }
    const auto statistics = (*std::move(accumulator)).Finish(executor);
    ASSERT_TRUE(statistics.ok());
    const std::string weight = SmallWeight(spec).chunk.data;
    GroupInput input;
    input.name = spec.name;
    input.statistics = &*statistics;
    input.linears = {{spec.linears[0].name,
                      {DType::kF32, reinterpret_cast<const std::byte*>(weight.data()),
                       spec.linears[0].out_features, spec.in_features}}};
    const auto result = QuantizeGroup(input, Method(), SmallOptions().stored, executor);
    ASSERT_TRUE(result.ok()) << result.status();
    ScriptedClient::Group group{spec.name, result->scales, {}};
    for (const NamedTensor& tensor : result->tensors) {
      group.tensors.emplace_back(reinterpret_cast<const char*>(tensor.data.data()),
                                 tensor.data.size());
    }
    want.push_back(std::move(group));
  }

  for (const int workers : {1, 2, 3}) {
    House house(workers);
    const auto client = house.Open(SmallCall(kGroups));
    const absl::Status status = client->Wait();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(client->groups(), want) << workers << " workers";
    EXPECT_EQ(client->finishes(), 1);
    EXPECT_EQ(house.ends.load(), 1);
    EXPECT_EQ(house.memory.reserved_bytes(), 0);
    EXPECT_EQ(house.counters.groups_quantized.load(), kGroups);
    EXPECT_EQ(house.counters.tokens_folded.load(), kGroups * 16);
    EXPECT_EQ(house.call->Summary().groups, kGroups);
  }
}

TEST(TensorCallTest, ManyCallsShareTheHouse) {
  House house(3);
  std::vector<std::shared_ptr<ScriptedClient>> clients;
  for (int i = 0; i < 12; ++i) clients.push_back(house.Open(SmallCall(3)));
  for (const auto& client : clients) {
    EXPECT_TRUE(client->Wait().ok());
    EXPECT_EQ(client->groups(), clients[0]->groups());
  }
  EXPECT_EQ(house.memory.reserved_bytes(), 0);
}

TEST(TensorCallTest, AMessageThatCannotBeDecodedEndsTheCallWithItsError) {
  House house;
  auto client = std::make_shared<ScriptedClient>(std::vector<CallMessage>{}, Settings{true, true});
  auto call = std::make_shared<TensorCall>(
      TensorCall::Shared{house.pool, house.memory, house.counters}, CallLimits(), client, [] {});
  client->Attach(call);
  call->Start();
  call->Deliver([]() -> absl::StatusOr<CallMessage> {
    return InvalidCall(Reason::kMessageOrder, "no message");
  });
  EXPECT_EQ(client->Wait().message(), "no message");
}

std::vector<CallMessage> HeavyCall() {
  std::vector<CallMessage> script = {SmallOptions()};
  GroupSpec spec = SmallSpec("heavy", 512, 1024);
  for (CallMessage& message : SmallGroup(spec)) script.push_back(std::move(message));
  return script;
}

TEST(TensorCallTest, CancellingEndsTheCallInEveryPhaseAndGivesAllMemoryBack) {
  // Phases by the number of messages that came; the last two are while and after quantizing.
  const size_t messages = HeavyCall().size();
  for (size_t sent = 0; sent <= messages; ++sent) {
    House house;
    std::vector<CallMessage> script = HeavyCall();
    script.resize(sent);
    const auto client = house.Open(std::move(script), {true, /*stays_silent=*/true});
    House::WaitFor([&] { return client->messages_left() == 0; });
    if (sent % 2 == 0) {
      house.call->Cancel();
      EXPECT_EQ(client->Wait().code(), absl::StatusCode::kCancelled);
    } else {
      house.call->Expire();
      EXPECT_EQ(client->Wait().code(), absl::StatusCode::kDeadlineExceeded);
    }
    House::WaitFor([&] { return house.memory.reserved_bytes() == 0; });
    EXPECT_EQ(client->finishes(), 1);
    house.call->Cancel();  // A second one changes nothing.
    EXPECT_EQ(client->finishes(), 1);
  }
}

}  // namespace
}  // namespace salient
