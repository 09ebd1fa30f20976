// Tests one writer after the other of a blob: offsets, what is refused, and what a full disk
// leaves.
#include "server/store/upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/store/blob_store.h"
#include "tests/server/store/blob_store_fixture.h"

namespace salient {
namespace {

using ::salient::testing::FileContent;
using ::salient::testing::RandomBytes;
using ::testing::HasSubstr;

using UploadTest = testing::BlobStoreFixture;

// Breaks lie before, at and behind a synced boundary, at the start, in the middle and at the end.
TEST_F(UploadTest, AnUploadIsResumedAtAnyOffset) {
  const auto store = Open();
  const std::string content = RandomBytes(3, 3 * kInterval);
  const size_t offsets[] = {0, 1, 999, 1000, 1001, 1500, 1999, 2000, 2001, 2999, 3000};
  for (const size_t offset : offsets) {
    // The content is a different one each time, so that each is a new upload.
    const std::string mine = absl::StrCat(offset, "-").append(content).substr(0, content.size());
    const Digest digest = DigestOf(mine);
    {
      auto upload = store->BeginUpload(digest);
      ASSERT_TRUE(upload.ok()) << upload.status();
      ASSERT_EQ(Send(*upload, mine.substr(0, offset)), absl::OkStatus());
    }
    EXPECT_EQ(store->Status(digest).committed_bytes, static_cast<int64_t>(offset));
    auto upload = store->BeginUpload(digest);
    ASSERT_TRUE(upload.ok()) << upload.status();
    ASSERT_EQ(upload->committed_bytes(), static_cast<int64_t>(offset));
    ASSERT_EQ(Send(*upload, mine, offset), absl::OkStatus());
    ASSERT_EQ(upload->Finish(), absl::OkStatus()) << "resumed at " << offset;
    EXPECT_EQ(ReadAll(*store, digest), mine) << "resumed at " << offset;
  }
}

TEST_F(UploadTest, OnlyTheCommittedOffsetIsTaken) {
  const auto store = Open();
  const std::string content = RandomBytes(4, 2000);
  auto upload = store->BeginUpload(DigestOf(content));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 1200)), absl::OkStatus());
  for (const int64_t offset : {int64_t{0}, int64_t{1199}, int64_t{1201}, int64_t{-1},
                               std::numeric_limits<int64_t>::max()}) {
    const absl::Status status = upload->Append(offset, "x");
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << offset;
    EXPECT_THAT(status.message(), HasSubstr("expected 1200"));
  }
  const absl::Status beyond = upload->Append(1200, std::string(801, 'x'));
  EXPECT_EQ(beyond.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(beyond.message(), HasSubstr("expected at most 800 more"));
  EXPECT_EQ(upload->Append(1200, ""), absl::OkStatus());
  ASSERT_EQ(Send(*upload, content, 1200), absl::OkStatus()) << "after refusals";
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
}

TEST_F(UploadTest, FinishingEarlyKeepsWhatIsThere) {
  const auto store = Open();
  const std::string content = RandomBytes(5, 1500);
  auto upload = store->BeginUpload(DigestOf(content));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 1499)), absl::OkStatus());
  const absl::Status early = upload->Finish();
  EXPECT_EQ(early.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(early.message(), HasSubstr("after 1499 bytes; expected 1500"));
  ASSERT_EQ(upload->Append(1499, content.substr(1499)), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
}

TEST_F(UploadTest, AWholeWithAnotherDigestIsDiscarded) {
  const auto store = Open();
  std::string content = RandomBytes(6, 2500);
  const Digest digest = DigestOf(content);
  std::string wrong = content;
  wrong[1234] ^= 1;
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(Send(*upload, wrong), absl::OkStatus());
  const absl::Status status = upload->Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(HexSha256(DigestOf(wrong))));
  EXPECT_EQ(store->Status(digest).committed_bytes, 0);
  EXPECT_FALSE(std::filesystem::exists(PartPath(digest)));
  EXPECT_EQ(store->Usage().used_bytes, 0);
  EXPECT_EQ(upload->Append(0, "x").code(), absl::StatusCode::kAborted);
  auto again = store->BeginUpload(digest);
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_EQ(Send(*again, content), absl::OkStatus());
  EXPECT_EQ(again->Finish(), absl::OkStatus());
}

TEST_F(UploadTest, AWriterOfWhichNothingComesIsReplaced) {
  const auto store = Open({.takeover_after = absl::ZeroDuration()});
  const std::string content = RandomBytes(7, 2500);
  const Digest digest = DigestOf(content);
  auto older = store->BeginUpload(digest);
  ASSERT_TRUE(older.ok()) << older.status();
  ASSERT_EQ(older->Append(0, content.substr(0, 1100)), absl::OkStatus());
  auto newer = store->BeginUpload(digest, BlobStore::Maker::kClient, 1100);
  ASSERT_TRUE(newer.ok()) << newer.status();
  EXPECT_EQ(newer->committed_bytes(), 1100);
  EXPECT_EQ(older->Append(1100, content.substr(1100, 10)).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(older->Finish().code(), absl::StatusCode::kAborted);
  older = absl::CancelledError();  // Dropping it must not close the newer one's file.
  ASSERT_EQ(Send(*newer, content, 1100), absl::OkStatus());
  EXPECT_EQ(newer->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST_F(UploadTest, AWriterAtWorkIsNotReplaced) {
  const auto store = Open();
  const std::string content = RandomBytes(8, 2500);
  const Digest digest = DigestOf(content);
  auto first = store->BeginUpload(digest);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->Append(0, content.substr(0, 1100)), absl::OkStatus());
  const auto rival = store->BeginUpload(digest, BlobStore::Maker::kClient, 1100);
  EXPECT_EQ(rival.status().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(rival.status().message(), HasSubstr("somebody is sending what follows byte 1100"));
  const auto elsewhere = store->BeginUpload(digest, BlobStore::Maker::kClient, 1099);
  EXPECT_EQ(elsewhere.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(elsewhere.status().message(), HasSubstr("expected 1100"));
  ASSERT_EQ(Send(*first, content, 1100), absl::OkStatus());
  EXPECT_EQ(first->Finish(), absl::OkStatus());
}

// Each has a file of its own; who finishes first makes the blob for both.
TEST_F(UploadTest, TwoWritersOfOneBlobDoNotDisturbEachOther) {
  const auto store = Open();
  const std::string content = RandomBytes(9, 2500);
  const Digest digest = DigestOf(content);
  auto first = store->BeginUpload(digest);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->Append(0, content.substr(0, 1100)), absl::OkStatus());
  auto second = store->BeginUpload(digest, BlobStore::Maker::kClient, 0);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->committed_bytes(), 0);
  EXPECT_EQ(store->Usage().uploads, 2);
  EXPECT_EQ(store->Usage().used_bytes, 5000);
  EXPECT_EQ(store->Status(digest).committed_bytes, 1100) << "of the one that is further";
  ASSERT_EQ(Send(*second, content), absl::OkStatus());
  EXPECT_EQ(store->Status(digest).committed_bytes, 2500);
  ASSERT_EQ(first->Append(1100, content.substr(1100, 10)), absl::OkStatus());
  EXPECT_EQ(second->Finish(), absl::OkStatus());
  EXPECT_EQ(first->Append(1110, content.substr(1110, 10)).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(first->Finish().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadAll(*store, digest), content);
  EXPECT_EQ(store->Usage().uploads, 0);
  EXPECT_EQ(store->Usage().used_bytes, 2500);
  EXPECT_TRUE(std::filesystem::is_empty(directory_ / "uploads"));
}

TEST_F(UploadTest, WrongBytesSpoilNoOtherUpload) {
  const auto store = Open();
  const std::string content = RandomBytes(10, 2500);
  const std::string wrong(content.size(), '#');
  const Digest digest = DigestOf(content);
  auto good = store->BeginUpload(digest);
  ASSERT_TRUE(good.ok()) << good.status();
  ASSERT_EQ(good->Append(0, content.substr(0, 1100)), absl::OkStatus());
  auto bad = store->BeginUpload(digest, BlobStore::Maker::kClient, 0);
  ASSERT_TRUE(bad.ok()) << bad.status();
  ASSERT_EQ(Send(*bad, wrong), absl::OkStatus());
  EXPECT_EQ(bad->Finish().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store->Status(digest).committed_bytes, 1100);
  ASSERT_EQ(Send(*good, content, 1100), absl::OkStatus());
  EXPECT_EQ(good->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

// Who continues what another left and is rejected loses what he sent; a second rejection means
// that what was left is no good.
TEST_F(UploadTest, WrongBytesBehindAnothersAreCutOff) {
  const auto store = Open();
  const std::string content = RandomBytes(11, 2500);
  const std::string wrong(content.size(), '#');
  const Digest digest = DigestOf(content);
  const auto send = [&](const std::string& bytes, int64_t from, size_t end) -> absl::Status {
    auto upload = store->BeginUpload(digest, BlobStore::Maker::kClient, from);
    if (!upload.ok()) return upload.status();
    absl::Status status = Send(*upload, bytes.substr(0, end), static_cast<size_t>(from));
    return status.ok() && end == bytes.size() ? upload->Finish() : status;
  };
  ASSERT_EQ(send(content, 0, 1100), absl::OkStatus());
  EXPECT_EQ(send(wrong, 1100, wrong.size()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store->Status(digest).committed_bytes, 1100);
  EXPECT_EQ(send(wrong, 1100, wrong.size()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store->Status(digest).committed_bytes, 0);
  EXPECT_EQ(store->Usage().uploads, 0);
  ASSERT_EQ(send(content, 0, 1100), absl::OkStatus());
  EXPECT_EQ(send(wrong, 1100, wrong.size()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(send(content, 1100, content.size()), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST_F(UploadTest, OfWhatWritersLeftTheLongestStays) {
  const auto store = Open();
  const std::string content = RandomBytes(12, 2500);
  const Digest digest = DigestOf(content);
  auto first = store->BeginUpload(digest);
  auto second = store->BeginUpload(digest, BlobStore::Maker::kClient, 0);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_EQ(first->Append(0, content.substr(0, 600)), absl::OkStatus());
  ASSERT_EQ(second->Append(0, content.substr(0, 700)), absl::OkStatus());
  first = absl::CancelledError();
  EXPECT_EQ(store->Usage().uploads, 2);
  second = absl::CancelledError();
  EXPECT_EQ(store->Usage().uploads, 1);
  EXPECT_EQ(store->Status(digest).committed_bytes, 700);
}

TEST_F(UploadTest, WhatWasLeftOfABlobMakesRoomForItsNextUpload) {
  const auto store = Open({.capacity_bytes = 4000});
  const std::string content = RandomBytes(13, 2500);
  const Digest digest = DigestOf(content);
  {
    auto left = store->BeginUpload(digest);
    ASSERT_TRUE(left.ok()) << left.status();
    ASSERT_EQ(left->Append(0, content.substr(0, 600)), absl::OkStatus());
  }
  auto upload = store->BeginUpload(digest, BlobStore::Maker::kClient, 0);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_EQ(store->BeginUpload(digest, BlobStore::Maker::kClient, 0).status().code(),
            absl::StatusCode::kResourceExhausted)
      << "but not one that is being sent";
  ASSERT_EQ(Send(*upload, content), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST_F(UploadTest, AnUploadMayBeMoved) {
  const auto store = Open();
  auto first = store->BeginUpload(DigestOf("first"));
  auto second = store->BeginUpload(DigestOf("second"));
  ASSERT_TRUE(first.ok() && second.ok());
  Upload upload = *std::move(first);
  ASSERT_EQ(upload.Append(0, "fir"), absl::OkStatus());
  upload = *std::move(second);
  EXPECT_EQ(store->Status(DigestOf("first")).committed_bytes, 3);
  ASSERT_EQ(upload.Append(0, "second"), absl::OkStatus());
  EXPECT_EQ(upload.Finish(), absl::OkStatus());
}

// The file system itself says no: by a limit on the size of files, which acts as a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    previous_handler_ = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &previous_);
    const rlimit limit = {bytes, previous_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &previous_);
    signal(SIGXFSZ, previous_handler_);
  }

 private:
  rlimit previous_;
  sighandler_t previous_handler_;
};

TEST_F(UploadTest, AFullDiskLosesNothing) {
  const auto store = Open();
  const std::string content = RandomBytes(16, 5 * kInterval);
  const Digest digest = DigestOf(content);
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 1500)), absl::OkStatus());
  {
    // The limit lies in the middle of the next append, behind the next boundary.
    const FileSizeLimit limit(2300);
    const absl::Status full = upload->Append(1500, content.substr(1500, 2000));
    EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
    EXPECT_EQ(full.message().find(": :"), absl::string_view::npos) << full;
    EXPECT_EQ(upload->committed_bytes(), 1500);
    EXPECT_EQ(FileContent(PartPath(digest)), content.substr(0, 1500));
    EXPECT_EQ(store->Put(RandomBytes(17, 2500)).status().code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(store->Usage().uploads, 1) << "what could not be put leaves nothing";
  }
  ASSERT_EQ(Send(*upload, content, 1500), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST_F(UploadTest, UploadsExpireByTheirLastByteOrWriter) {
  const auto store = Open({.upload_ttl = absl::Hours(2)});
  const Digest idle = DigestOf("idle");
  const Digest whole = *store->Put("whole");
  auto upload = store->BeginUpload(idle);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, "id"), absl::OkStatus());
  EXPECT_EQ(*store->ExpireUploads(absl::Now() + absl::Hours(1)), 0);
  EXPECT_EQ(store->Status(idle).committed_bytes, 2);
  EXPECT_EQ(*store->ExpireUploads(absl::Now() + absl::Hours(3)), 1);
  EXPECT_EQ(store->Status(idle).committed_bytes, 0);
  EXPECT_FALSE(std::filesystem::exists(PartPath(idle)));
  EXPECT_EQ(upload->Append(2, "le").code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(store->Status(whole).complete);
  EXPECT_EQ(store->Usage().used_bytes, 5);
}

}  // namespace
}  // namespace salient
