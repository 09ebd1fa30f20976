#include "server/calls/tensor_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/calls/call_registry.h"
#include "server/workers/call_error.h"
#include "tests/server/calls/scripted_client.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using Settings = ScriptedClient::Settings;

// What a server would hold.
struct House {
  explicit House(int workers = 2, int64_t memory_bytes = int64_t{1} << 30)
      : memory(memory_bytes), pool(workers) {}

  std::shared_ptr<ScriptedClient> Open(std::vector<CallMessage> script, Settings settings = {},
                                       const CallLimits& limits = {}) {
    auto client = std::make_shared<ScriptedClient>(std::move(script), settings);
    call = std::make_shared<TensorCall>(TensorCall::Shared{pool, memory, counters}, limits, client,
                                        [this] { ends.fetch_add(1); });
    client->Attach(call);
    call->Start();
    return client;
  }

  // Until `condition`; the test's own time limit is the only clock.
  static void WaitFor(const std::function<bool()>& condition) {
    while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  MemoryBudget memory;
  CallCounters counters;
  std::atomic<int> ends{0};
  std::shared_ptr<TensorCall> call;  // the one opened last
  WorkerPool pool;                   // goes first: its tasks use the rest
};

std::vector<CallMessage> SmallCall(int groups) {
  std::vector<CallMessage> script = {SmallOptions()};
  for (int i = 0; i < groups; ++i) {
    for (CallMessage& message : SmallGroup(SmallSpec(absl::StrCat("g", i), 16 + 8 * i))) {
      script.push_back(std::move(message));
    }
  }
  return script;
}

TEST(TensorCallTest, GroupsComeBackInOrderAndAreTheCoresOwnForAnyNumberOfWorkers) {
  constexpr int kGroups = 6;
  // By the core alone, on one thread.
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

// ---- malformed sequences

struct Malformed {
  const char* name;
  std::function<void(std::vector<CallMessage>&)> spoil;  // of a good call of one group
  absl::StatusCode code;
  Reason reason;
  std::vector<std::string> names;  // that the message contains
};

// Positions in SmallCall(1).
enum At { kOptions, kGroup, kWeight, kRow0, kRow1, kEnd };

template <typename T>
T& Get(std::vector<CallMessage>& script, At at) {
  return std::get<T>(script[at]);
}

void Erase(std::vector<CallMessage>& script, At at) { script.erase(script.begin() + at); }
void Insert(std::vector<CallMessage>& script, At at, CallMessage message) {
  script.insert(script.begin() + at, std::move(message));
}
void SetFloat(std::string& bytes, size_t index, float value) {
  std::memcpy(bytes.data() + index * sizeof(float), &value, sizeof(value));
}

using Script = std::vector<CallMessage>;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

const Malformed kMalformed[] = {
    {"Empty", [](Script& s) { s.clear(); }, kInvalid, Reason::kMessageOrder, {"options"}},
    {"OptionsOnly", [](Script& s) { s.resize(1); }, kInvalid, Reason::kMessageOrder, {"group"}},
    {"NoOptions",
     [](Script& s) { Erase(s, kOptions); },
     kInvalid,
     Reason::kMessageOrder,
     {"group", "options"}},
    {"OptionsTwice",
     [](Script& s) { Insert(s, kWeight, SmallOptions()); },
     kInvalid,
     Reason::kMessageOrder,
     {"options"}},
    {"WeightOutside",
     [](Script& s) { Erase(s, kGroup); },
     kInvalid,
     Reason::kMessageOrder,
     {"weight", "group"}},
    {"GroupInside",
     [](Script& s) { Insert(s, kWeight, SmallSpec("other")); },
     kInvalid,
     Reason::kMessageOrder,
     {"other", "g0", "end_group"}},
    {"NoEndGroup",
     [](Script& s) { Erase(s, kEnd); },
     kInvalid,
     Reason::kMessageOrder,
     {"g0", "end_group"}},
    {"GroupTwice",
     [](Script& s) {
       for (auto& m : SmallGroup(SmallSpec("g0"))) s.push_back(m);
     },
     kInvalid,
     Reason::kDuplicateName,
     {"g0"}},
    {"LinearTwice",
     [](Script& s) {
       auto& spec = Get<GroupSpec>(s, kGroup);
       spec.linears.push_back(spec.linears[0]);
     },
     kInvalid,
     Reason::kDuplicateName,
     {"g0.linear"}},
    {"EmptyName",
     [](Script& s) { Get<GroupSpec>(s, kGroup).name = ""; },
     kInvalid,
     Reason::kBadHeader,
     {"empty"}},
    {"LongName",
     [](Script& s) { Get<GroupSpec>(s, kGroup).name = std::string(513, 'n'); },
     kInvalid,
     Reason::kBadHeader,
     {"513", "512"}},
    {"NoLinears",
     [](Script& s) { Get<GroupSpec>(s, kGroup).linears.clear(); },
     kInvalid,
     Reason::kBadHeader,
     {"g0", "0 Linears"}},
    {"NoFeatures",
     [](Script& s) { Get<GroupSpec>(s, kGroup).in_features = 0; },
     kInvalid,
     Reason::kBadHeader,
     {"in_features is 0"}},
    {"AbsurdOutFeatures",
     [](Script& s) { Get<GroupSpec>(s, kGroup).linears[0].out_features = kMost; },
     kInvalid,
     Reason::kBadHeader,
     {"g0.linear", "9223372036854775807"}},
    {"IntegerWeights",
     [](Script& s) { Get<GroupSpec>(s, kGroup).linears[0].dtype = DType::kI8; },
     kInvalid,
     Reason::kBadHeader,
     {"g0.linear", "I8"}},
    {"OddOutFeatures",
     [](Script& s) { Get<GroupSpec>(s, kGroup).linears[0].out_features = 12; },
     kInvalid,
     Reason::kBadShape,
     {"g0.linear", "12", "8"}},
    {"GroupSize",
     [](Script& s) { Get<CallOptions>(s, kOptions).stored.format.group_size = 48; },
     kInvalid,
     Reason::kBadShape,
     {"g0.linear", "48", "64"}},
    {"HeadDim",
     [](Script& s) {
       Get<GroupSpec>(s, kGroup).tied_heads = TiedHeads{48, 1};
     },
     kInvalid,
     Reason::kBadHeader,
     {"head_dim is 48", "64"}},
    {"QueryHeads",
     [](Script& s) {
       Get<GroupSpec>(s, kGroup).tied_heads = TiedHeads{16, 3};
     },
     kInvalid,
     Reason::kBadHeader,
     {"query_heads_per_kv_head is 3", "4"}},
    {"MoreThanACallMayHave",
     [](Script& s) {
       auto& spec = Get<GroupSpec>(s, kGroup);
       spec.in_features = 1 << 18;
       spec.linears[0].out_features = 1 << 18;
     },
     absl::StatusCode::kResourceExhausted,
     Reason::kMemory,
     {"g0", "2147483648"}},
    {"LinearIndex",
     [](Script& s) { Get<WeightData>(s, kWeight).linear_index = 1; },
     kInvalid,
     Reason::kBadHeader,
     {"g0", "linear_index is 1"}},
    {"NegativeIndex",
     [](Script& s) { Get<WeightData>(s, kWeight).linear_index = -1; },
     kInvalid,
     Reason::kBadHeader,
     {"linear_index is -1"}},
    {"Offset",
     [](Script& s) { Get<WeightData>(s, kWeight).chunk.offset_bytes = 4; },
     absl::StatusCode::kOutOfRange,
     Reason::kOffset,
     {"g0.linear.weight", "4", "0"}},
    {"TooManyBytes",
     [](Script& s) { Get<WeightData>(s, kWeight).chunk.data += "four"; },
     kInvalid,
     Reason::kBadShape,
     {"g0.linear.weight", "4096"}},
    {"ChunkTooLarge",
     [](Script& s) { Get<WeightData>(s, kWeight).chunk.data.resize(kMaxChunkBytes + 1); },
     kInvalid,
     Reason::kChunkTooLarge,
     {"2097153", "2097152"}},
    {"Crc",
     [](Script& s) { Get<WeightData>(s, kWeight).chunk.crc32c = 7; },
     absl::StatusCode::kDataLoss,
     Reason::kChunkCrc,
     {"g0.linear.weight", "0x00000007"}},
    {"MissingBytes",
     [](Script& s) { Get<WeightData>(s, kWeight).chunk.data.resize(4000); },
     kInvalid,
     Reason::kMissingBytes,
     {"g0.linear.weight", "4000", "4096"}},
    {"NanWeight",
     [](Script& s) { SetFloat(Get<WeightData>(s, kWeight).chunk.data, 130, NAN); },
     kInvalid,
     Reason::kNonFinite,
     {"g0.linear.weight", "[2, 2]", "nan"}},
    {"InfiniteActivation",
     [](Script& s) { SetFloat(Get<ActivationData>(s, kRow1).data, 65, -kInfinity); },
     kInvalid,
     Reason::kNonFinite,
     {"g0", "inf"}},
    {"NoTokens",
     [](Script& s) { s.erase(s.begin() + kRow0, s.begin() + kEnd); },
     kInvalid,
     Reason::kNoTokens,
     {"g0"}},
    {"NoActivationDtype",
     [](Script& s) { Get<GroupSpec>(s, kGroup).activation_dtype.reset(); },
     kInvalid,
     Reason::kBadHeader,
     {"g0", "activation_dtype"}},
    {"RaggedRow",
     [](Script& s) { Get<ActivationData>(s, kRow0).data.resize(260); },
     kInvalid,
     Reason::kBadShape,
     {"g0", "260", "256"}},
    {"EmptyRow",
     [](Script& s) { Get<ActivationData>(s, kRow0).data.clear(); },
     kInvalid,
     Reason::kBadShape,
     {"g0", "0 bytes"}},
    {"NegativeRow",
     [](Script& s) { Get<ActivationData>(s, kRow0).calibration_row = -1; },
     kInvalid,
     Reason::kBadShape,
     {"-1"}},
    {"Position",
     [](Script& s) { Get<ActivationData>(s, kRow1).first_position = 3; },
     absl::StatusCode::kOutOfRange,
     Reason::kPosition,
     {"g0", "3"}},
    {"NegativePosition",
     [](Script& s) { Get<ActivationData>(s, kRow1).first_position = -3; },
     absl::StatusCode::kOutOfRange,
     Reason::kPosition,
     {"-3"}},
    {"RowTwice",
     [](Script& s) { Insert(s, kEnd, SmallRow(SmallSpec("g0"), 0)); },
     absl::StatusCode::kFailedPrecondition,
     Reason::kDuplicateRow,
     {"g0", "0"}},
    {"RowCrc",
     [](Script& s) { Get<ActivationData>(s, kRow0).crc32c = 7; },
     absl::StatusCode::kDataLoss,
     Reason::kChunkCrc,
     {"g0"}},
    {"StatisticsGarbage",
     [](Script& s) {
       Insert(s, kEnd, StatisticsData{{0, std::string(100, 'x'), {}}, 100});
     },
     kInvalid,
     Reason::kStatistics,
     {"g0"}},
    {"StatisticsCutShort",
     [](Script& s) {
       Insert(s, kEnd, StatisticsData{{0, std::string(100, 'x'), {}}, 4096});
     },
     kInvalid,
     Reason::kMissingBytes,
     {"g0", "100", "4096"}},
    {"StatisticsSizeChanges",
     [](Script& s) {
       Insert(s, kEnd, StatisticsData{{0, std::string(100, 'x'), {}}, 4096});
       s.insert(s.begin() + kEnd + 1, StatisticsData{{100, std::string(100, 'x'), {}}, 5000});
     },
     kInvalid,
     Reason::kBadShape,
     {"5000", "4096"}},
    {"StatisticsNegative",
     [](Script& s) {
       Insert(s, kEnd, StatisticsData{{0, "x", {}}, -1});
     },
     kInvalid,
     Reason::kBadShape,
     {"-1"}},
    {"StatisticsAbsurd",
     [](Script& s) {
       Insert(s, kEnd, StatisticsData{{0, "x", {}}, kMost});
     },
     absl::StatusCode::kResourceExhausted,
     Reason::kMemory,
     {"g0"}},
};

class MalformedTest : public testing::TestWithParam<Malformed> {};
INSTANTIATE_TEST_SUITE_P(Sequences, MalformedTest, testing::ValuesIn(kMalformed),
                         [](const auto& sequence) { return std::string(sequence.param.name); });

TEST_P(MalformedTest, EndsWithItsCodeAndReasonAndGivesAllMemoryBack) {
  House house;
  std::vector<CallMessage> script = SmallCall(1);
  GetParam().spoil(script);
  const auto client = house.Open(std::move(script));
  const absl::Status status = client->Wait();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_EQ(Name(DetailsOf(status).reason), Name(GetParam().reason)) << status;
  for (const std::string& name : GetParam().names) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
  House::WaitFor([&] { return house.memory.reserved_bytes() == 0; });
  EXPECT_EQ(client->finishes(), 1);
  EXPECT_EQ(house.ends.load(), 1);
  EXPECT_TRUE(house.Open(SmallCall(1))->Wait().ok()) << "a good call after it";
}

TEST(TensorCallTest, AMessageThatCannotBeDecodedEndsTheCallWithItsError) {
  House house;
  auto client = std::make_shared<ScriptedClient>(Script{}, Settings{true, true});
  auto call = std::make_shared<TensorCall>(
      TensorCall::Shared{house.pool, house.memory, house.counters}, CallLimits(), client, [] {});
  client->Attach(call);
  call->Start();
  call->Deliver([]() -> absl::StatusOr<CallMessage> {
    return InvalidCall(Reason::kMessageOrder, "no message");
  });
  EXPECT_EQ(client->Wait().message(), "no message");
}

// ---- memory and time

// Room for about two groups of SmallCall, so that results nobody reads fill it.
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

TEST(TensorCallTest, ReadingStopsAtTheBudgetAndGoesOnWhenResultsAreRead) {
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
TEST(TensorCallTest, AStatisticsFileThatDoesNotFitBesideItsGroupIsRefused) {
  House house;
  std::vector<CallMessage> script = {SmallOptions(), SmallSpec("g", 16 + 8 * 30),
                                     StatisticsData{{0, "x", {}}, 4096}};
  const auto client = house.Open(std::move(script), {true, true}, TightLimits());
  const absl::Status status = client->Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(DetailsOf(status).reason, Reason::kMemory);
  House::WaitFor([&] { return house.memory.reserved_bytes() == 0; });
}

TEST(TensorCallTest, AClientThatNeverReadsIsToldSo) {
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

TEST(TensorCallTest, ResultsThatFitMayWaitLonger) {
  House house;
  const auto client = house.Open(SmallCall(2), {/*reads_results=*/false, false});
  House::WaitFor([&] { return house.call->Summary().groups == 2; });
  house.call->Tick(absl::Now() + absl::Seconds(500));
  EXPECT_FALSE(client->finished());
  house.call->Tick(absl::Now() + absl::Seconds(601));
  EXPECT_EQ(DetailsOf(client->Wait()).reason, Reason::kClientNotReading);
}

TEST(TensorCallTest, ASilentClientIsIdleAfterItsTime) {
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

TEST(TensorCallTest, AGroupWaitsForTheMemoryOfOthersAndIsRefusedAfterAWhile) {
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

// ---- cancellation

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
    house.call->Cancel();  // again: nothing
    EXPECT_EQ(client->finishes(), 1);
  }
}

// ---- registry

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
