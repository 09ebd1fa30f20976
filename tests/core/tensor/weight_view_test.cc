#include "core/tensor/weight_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(WeightViewTest, ReadsTheRowsAskedFor) {
  const std::vector<uint16_t> stored = {F32ToBF16(1), F32ToBF16(2), F32ToBF16(3),
                                        F32ToBF16(4), F32ToBF16(5), F32ToBF16(6)};
  const WeightView weight = {DType::kBF16, reinterpret_cast<const std::byte*>(stored.data()), 3, 2};
  std::vector<float> rows(4);
  weight.ReadRows(1, 2, rows.data());
  EXPECT_THAT(rows, ElementsAre(3, 4, 5, 6));
}

TEST(CheckFiniteTest, NamesTensorRowColumnAndValue) {
  std::vector<float> values(6, 1.0f);
  EXPECT_TRUE(CheckFinite("w", values.data(), 2, 3, 0).ok());
  // The largest finite value must not be taken for an infinity.
  values[0] = std::numeric_limits<float>::max();
  EXPECT_TRUE(CheckFinite("w", values.data(), 2, 3, 0).ok());

  values[4] = -std::numeric_limits<float>::infinity();
  absl::Status status = CheckFinite("model.q_proj.weight", values.data(), 2, 3, 100);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(IsNonFinite(status));
  EXPECT_FALSE(IsNonFinite(absl::InvalidArgumentError(status.message())));
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.q_proj.weight"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("[101, 1]"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("-inf"));

  values[4] = std::nanf("");
  status = CheckFinite("w", values.data(), 2, 3, 0);
  EXPECT_THAT(std::string(status.message()), HasSubstr("[1, 1] is nan"));
}

TEST(FirstNonFiniteTest, IsTheFirstOfSeveral) {
  std::vector<float> values(100, std::numeric_limits<float>::lowest());
  EXPECT_EQ(FirstNonFinite(values.data(), 100), std::nullopt);
  EXPECT_EQ(FirstNonFinite(values.data(), 0), std::nullopt);
  values[99] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(FirstNonFinite(values.data(), 99), std::nullopt);
  EXPECT_EQ(FirstNonFinite(values.data(), 100), 99);
  values[42] = -std::nanf("");
  EXPECT_EQ(FirstNonFinite(values.data(), 100), 42);
}

}  // namespace
}  // namespace salient
