#include "core/model/numerics.h"

#include <gtest/gtest.h>

#include <string>

#include "core/model/activations.h"

namespace salient {
namespace {

// Equal ids promise equal bits, so the dtype of the forward pass must tell two ids apart, and
// alone.
TEST(NumericsTest, TheComputeDTypeIsPartOfTheName) {
  const std::string bf16 = NumericsId(ComputeDType::kBF16);
  const std::string f32 = NumericsId(ComputeDType::kF32);
  EXPECT_EQ(bf16.substr(0, 5), "bf16/");
  EXPECT_EQ(f32.substr(0, 4), "f32/");
  EXPECT_EQ(bf16.substr(5), f32.substr(4));
  EXPECT_EQ(NumericsId(), f32);
}

}  // namespace
}  // namespace salient
