#include "server/rpc/convert/enums.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "core/pack/stored_format.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

// Every value that the contract names stands in one row, each with a value of the core's own.
template <typename Ours, typename Wire, size_t n>
void ExpectOneForOne(const EnumRow<Ours, Wire> (&table)[n]) {
  const auto& type = *google::protobuf::GetEnumDescriptor<Wire>();
  SCOPED_TRACE(type.name());
  EXPECT_EQ(static_cast<int>(n), type.value_count() - 1);
  std::set<Ours> ours;
  for (int i = 1; i < type.value_count(); ++i) {
    const std::optional<Ours> value = FromWire(table, type.value(i)->number());
    ASSERT_TRUE(value.has_value()) << type.value(i)->name();
    EXPECT_TRUE(ours.insert(*value).second) << type.value(i)->name();
    EXPECT_EQ(static_cast<int>(ToWire(table, *value)), type.value(i)->number());
  }
  EXPECT_FALSE(FromWire(table, 0).has_value()) << "what is unset";
  EXPECT_FALSE(FromWire(table, 99).has_value());
}

TEST(EnumsTest, EachValueOfTheContractIsOneOfTheCore) {
  ExpectOneForOne(kScales);
  ExpectOneForOne(kRanges);
  ExpectOneForOne(kRoundings);
  ExpectOneForOne(kOutputFormats);
  ExpectOneForOne(kActivationFormats);
  ExpectOneForOne(kEngines);
  ExpectOneForOne(kDataTypes);
  ExpectOneForOne(kComputeDtypes);
  ExpectOneForOne(kJobStates);
}

// Returns what names of the contract have behind `prefix`.
template <typename Wire>
std::string ContractName(Wire value, absl::string_view prefix) {
  const std::string& name =
      google::protobuf::GetEnumDescriptor<Wire>()->FindValueByNumber(value)->name();
  return name.substr(prefix.size());
}

std::string InLowerCase(const std::string& name) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", "-"}});
}

TEST(EnumsTest, TheCoreCallsThemAsTheContractDoes) {
  for (const auto& row : kOutputFormats) {
    EXPECT_EQ(Name(row.ours), InLowerCase(ContractName(row.wire, "OUTPUT_FORMAT_")));
  }
  for (const auto& row : kEngines) {
    EXPECT_EQ(EngineName(row.ours), InLowerCase(ContractName(row.wire, "ENGINE_")));
  }
  for (const auto& row : kDataTypes) {
    EXPECT_EQ(Name(row.ours), ContractName(row.wire, "DATA_TYPE_"));
  }
  EXPECT_EQ(std::size(kEngines), AllEngines().size());
}

TEST(EnumsTest, WhatIsUnsetIsTheDefaultAndWhatIsUnknownNamesItsField) {
  const auto unset = FromWireOr(kRanges, RangeChoice::kClip, Reason::kBadMethod, "method.range", 0);
  ASSERT_TRUE(unset.ok());
  EXPECT_EQ(*unset, RangeChoice::kClip);
  const absl::Status unknown =
      FromWireOr(kRanges, RangeChoice::kClip, Reason::kBadMethod, "method.range", 9).status();
  EXPECT_EQ(unknown.message(), "method.range is 9; expected a value of Range");
}

TEST(EnumsTest, TypesThatTheWireDoesNotHaveAreUnspecified) {
  EXPECT_EQ(ToWire(kDataTypes, DType::kF64), v1::DATA_TYPE_UNSPECIFIED);
  EXPECT_EQ(ToWire(kActivationFormats, ActivationFormat::kNone), v1::ACTIVATION_FORMAT_UNSPECIFIED);
}

}  // namespace
}  // namespace salient
