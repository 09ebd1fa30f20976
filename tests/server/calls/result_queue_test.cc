#include "server/calls/result_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"

namespace salient {
namespace {

std::shared_ptr<const FinishedGroup> Group(const std::string& name, std::vector<int64_t> sizes) {
  auto group = std::make_shared<FinishedGroup>();
  group->result.report.name = name;
  group->result.scales = {1, 1};
  for (const int64_t size : sizes) {
    group->result.tensors.push_back({name, DType::kU8, {size}, std::vector<std::byte>(size)});
  }
  return group;
}

TEST(ResultQueueTest, SendsHeadsAndEveryByteInOrderAndGivesMemoryBackWhenAGroupIsThrough) {
  MemoryBudget budget(1000);
  ResultQueue queue;
  for (const char* name : {"a", "b"}) {
    queue.Push({{*budget.TryReserve(100), Reservation()},
                Group(name, {0, 5, 2 * kChunkBytes, kChunkBytes + 1, 0})});
  }
  const std::vector<ByteRange> want[] = {{},
                                         {{0, 5}},
                                         {{0, kChunkBytes}, {kChunkBytes, kChunkBytes}},
                                         {{0, kChunkBytes}, {kChunkBytes, 1}},
                                         {}};
  std::vector<ResultQueue::Entry> sent;
  for (const char* name : {"a", "b"}) {
    auto head = queue.Next(sent);
    ASSERT_TRUE(head.has_value());
    EXPECT_EQ(head->group->result.report.name, name);
    EXPECT_FALSE(head->tensor_index.has_value());
    sent.clear();
    EXPECT_EQ(budget.reserved_bytes(), name == std::string("a") ? 200 : 100);
    for (int tensor = 0; tensor < 5; ++tensor) {
      for (const ByteRange& range : want[tensor]) {
        const auto chunk = queue.Next(sent);
        ASSERT_TRUE(chunk.has_value());
        EXPECT_EQ(chunk->tensor_index, tensor);
        EXPECT_EQ(chunk->range, range);
      }
    }
    EXPECT_TRUE(sent.empty()) << "the last chunk is not sent yet";
  }
  EXPECT_FALSE(queue.Next(sent).has_value());
  EXPECT_EQ(sent.size(), 1u);
  sent.clear();
  EXPECT_EQ(budget.reserved_bytes(), 0);
  EXPECT_TRUE(queue.empty());
}

TEST(ResultQueueTest, AGroupWithoutTensorsIsItsHead) {
  ResultQueue queue;
  queue.Push({{}, Group("a", {})});
  std::vector<ResultQueue::Entry> sent;
  EXPECT_TRUE(queue.Next(sent).has_value());
  EXPECT_FALSE(queue.Next(sent).has_value());
  EXPECT_EQ(sent.size(), 1u);
}

TEST(ResultBytesTest, CountsScalesAndTensors) {
  EXPECT_EQ(ResultBytes(Group("a", {3, 4})->result), 2 * 4 + 3 + 4);
}

}  // namespace
}  // namespace salient
