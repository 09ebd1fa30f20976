#include "proto/wire/chunk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace salient {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(ChunkAtTest, ChunksOfEverySizeTileTheWhole) {
  for (const int64_t total : {0, 1, 9, 10, 11, 100}) {
    for (const int64_t chunk : {1, 3, 10, 1000}) {
      ChunkCursor cursor(total);
      int64_t sent = 0;
      while (sent < total) {
        const ByteRange range = ChunkAt(total, sent, chunk);
        ASSERT_GT(range.size, 0);
        ASSERT_LE(range.size, chunk);
        ASSERT_TRUE(cursor.Take("t", range).ok());
        sent += range.size;
      }
      EXPECT_EQ(sent, total);
      EXPECT_TRUE(cursor.complete());
      EXPECT_EQ(ChunkAt(total, sent, chunk), (ByteRange{total, 0}));
    }
  }
}

TEST(CheckedBytesTest, IsTheProductOrNothing) {
  EXPECT_EQ(CheckedBytes(3, 5, 4), 60);
  EXPECT_EQ(CheckedBytes(0, kMost, 4), 0);
  EXPECT_EQ(CheckedBytes(int64_t{1} << 31, int64_t{1} << 31, 1), int64_t{1} << 62);
  EXPECT_EQ(CheckedBytes(int64_t{1} << 31, int64_t{1} << 31, 2), std::nullopt);
  EXPECT_EQ(CheckedBytes(int64_t{1} << 32, int64_t{1} << 31, 1), std::nullopt);
  EXPECT_EQ(CheckedBytes(kMost, kMost, 1), std::nullopt);
  EXPECT_EQ(CheckedBytes(-1, 5, 4), std::nullopt);
}

TEST(ChunkCursorTest, AChunkElsewhereIsOutOfRangeAndNamesBothOffsets) {
  ChunkCursor cursor(100);
  ASSERT_TRUE(cursor.Take("w", {0, 10}).ok());
  for (const int64_t offset : {int64_t{0}, int64_t{9}, int64_t{11}, int64_t{-1}, kMost}) {
    const absl::Status status = cursor.Take("w", {offset, 5});
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(Message(status), HasSubstr("w: chunk at offset " + std::to_string(offset)));
    EXPECT_THAT(Message(status), HasSubstr("10"));
    EXPECT_EQ(cursor.next_offset(), 10);
  }
}

TEST(ChunkCursorTest, AChunkBeyondTheEndIsInvalidAndChangesNothing) {
  ChunkCursor cursor(100);
  ASSERT_TRUE(cursor.Take("w", {0, 90}).ok());
  const absl::Status status = cursor.Take("w", {90, 11});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr("expected 100 bytes in all"));
  EXPECT_FALSE(cursor.complete());
  EXPECT_TRUE(cursor.Take("w", {90, 10}).ok());
  EXPECT_TRUE(cursor.complete());
}

TEST(ChunkCursorTest, AChunkAboveTheLimitIsInvalid) {
  ChunkCursor cursor(kMost);
  EXPECT_EQ(cursor.Take("w", {0, kMaxChunkBytes + 1}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(cursor.Take("w", {0, kMaxChunkBytes}).ok());
}

}  // namespace
}  // namespace salient
