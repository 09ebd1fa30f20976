// Calls whose messages are wrong, each in one place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/method/scale_candidates.h"
#include "core/tensor/dtype.h"
#include "proto/wire/chunk.h"
#include "server/calls/call_messages.h"
#include "server/error/call_error.h"
#include "tests/server/calls/house.h"
#include "tests/server/calls/scripted_client.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

struct Malformed {
  const char* name;
  std::function<void(std::vector<CallMessage>&)> spoil;  // It spoils a good call of one group.
  absl::StatusCode code;
  Reason reason;
  std::vector<std::string> names;  // The message contains them.
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

class MalformedTest : public ::testing::TestWithParam<Malformed> {};
INSTANTIATE_TEST_SUITE_P(Sequences, MalformedTest, ::testing::ValuesIn(kMalformed),
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

}  // namespace
}  // namespace salient
