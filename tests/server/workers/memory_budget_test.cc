#include "server/workers/memory_budget.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>

namespace salient {
namespace {

TEST(MemoryBudgetTest, HandsOutNoMoreThanItHasAndTakesItBack) {
  MemoryBudget budget(100);
  auto a = budget.TryReserve(60);
  ASSERT_TRUE(a.has_value());
  EXPECT_FALSE(budget.TryReserve(41).has_value());
  auto b = budget.TryReserve(40);
  ASSERT_TRUE(b.has_value());
  EXPECT_EQ(budget.reserved_bytes(), 100);
  a->ShrinkTo(10);
  EXPECT_EQ(budget.reserved_bytes(), 50);
  a->ShrinkTo(1000);  // It never grows.
  EXPECT_EQ(a->bytes(), 10);
  a.reset();
  b.reset();
  EXPECT_EQ(budget.reserved_bytes(), 0);
  EXPECT_FALSE(budget.TryReserve(std::numeric_limits<int64_t>::max()).has_value());
}

TEST(MemoryBudgetTest, AMovedReservationIsGivenBackOnce) {
  MemoryBudget budget(100);
  Reservation target = *budget.TryReserve(30);
  {
    Reservation source = *budget.TryReserve(50);
    target = std::move(source);
    EXPECT_EQ(budget.reserved_bytes(), 50);
  }
  EXPECT_EQ(budget.reserved_bytes(), 50);
  target = Reservation();
  EXPECT_EQ(budget.reserved_bytes(), 0);
}

TEST(MemoryBudgetTest, AnAbsorbedReservationIsGivenBackWithTheOther) {
  MemoryBudget budget(100);
  Reservation one = *budget.TryReserve(30);
  {
    Reservation other = *budget.TryReserve(50);
    other.ShrinkTo(20);
    one.Absorb(std::move(other));
  }
  EXPECT_EQ(one.bytes(), 50);
  EXPECT_EQ(budget.reserved_bytes(), 50);
  Reservation none;
  none.Absorb(std::move(one));
  EXPECT_EQ(budget.reserved_bytes(), 50);
  none.ShrinkTo(10);
  EXPECT_EQ(budget.reserved_bytes(), 10);
  none = Reservation();
  EXPECT_EQ(budget.reserved_bytes(), 0);
}

TEST(MemoryBudgetTest, ALargeRequestIsNotOvertakenBySmallOnes) {
  MemoryBudget budget(100);
  auto held = budget.TryReserve(50);
  const MemoryBudget::Place large(budget);
  EXPECT_FALSE(budget.TryReserve(80, &large).has_value());
  EXPECT_FALSE(budget.TryReserve(10).has_value()) << "a newcomer overtook";
  const MemoryBudget::Place small(budget);
  EXPECT_FALSE(budget.TryReserve(10, &small).has_value()) << "a later place overtook";
  held.reset();
  EXPECT_TRUE(budget.TryReserve(80, &large).has_value());
}

TEST(MemoryBudgetTest, WhoLeavesTheQueueLetsTheNextIn) {
  MemoryBudget budget(100);
  {
    const MemoryBudget::Place gone(budget);
    EXPECT_FALSE(budget.TryReserve(10).has_value());
  }
  EXPECT_TRUE(budget.TryReserve(10).has_value());
}

}  // namespace
}  // namespace salient
