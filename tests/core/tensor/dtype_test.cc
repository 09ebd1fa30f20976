#include "core/tensor/dtype.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace salient {
namespace {

struct Known {
  DType dtype;
  const char* name;
  int64_t size;
};

// Returns the reference's enum, without what DType lacks, in its order.
const std::vector<Known>& AllKnown() {
  static const std::vector<Known> known = {
      {DType::kBool, "BOOL", 1}, {DType::kU8, "U8", 1},   {DType::kI8, "I8", 1},
      {DType::kI16, "I16", 2},   {DType::kU16, "U16", 2}, {DType::kF16, "F16", 2},
      {DType::kBF16, "BF16", 2}, {DType::kI32, "I32", 4}, {DType::kU32, "U32", 4},
      {DType::kF32, "F32", 4},   {DType::kF64, "F64", 8}, {DType::kI64, "I64", 8},
      {DType::kU64, "U64", 8}};
  return known;
}

TEST(DTypeTest, NamesAndSizesAreThoseOfTheFormat) {
  for (const Known& known : AllKnown()) {
    EXPECT_EQ(Name(known.dtype), known.name);
    EXPECT_EQ(SizeOf(known.dtype), known.size) << known.name;
    EXPECT_EQ(ParseDType(known.name), known.dtype);
  }
}

TEST(DTypeTest, OrderIsThatOfTheReferenceWriter) {
  for (size_t i = 1; i < AllKnown().size(); ++i) {
    EXPECT_LT(AllKnown()[i - 1].dtype, AllKnown()[i].dtype) << AllKnown()[i].name;
  }
}

TEST(DTypeTest, OtherNamesAreUnknown) {
  for (const char* name : {"f16", "F8_E4M3", "", "F16 ", "FLOAT"}) {
    EXPECT_EQ(ParseDType(name), std::nullopt) << name;
  }
}

TEST(DTypeTest, OnlyThreeAreFloatsForWeights) {
  for (const Known& known : AllKnown()) {
    const std::string name = known.name;
    EXPECT_EQ(IsFloat(known.dtype), name == "F16" || name == "BF16" || name == "F32") << name;
  }
}

}  // namespace
}  // namespace salient
