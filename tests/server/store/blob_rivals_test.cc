// Calls on a store that come at the same time.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "tests/server/store/blob_store_fixture.h"

namespace salient {
namespace {

using ::salient::testing::RandomBytes;

using BlobRivalsTest = testing::BlobStoreFixture;

TEST_F(BlobRivalsTest, DifferentBlobsAreUploadedAtOnce) {
  const auto store = Open();
  std::vector<std::string> contents;
  for (int i = 0; i < 8; ++i) contents.push_back(RandomBytes(100 + i, 20 * kInterval + i));
  std::vector<std::thread> threads;
  for (const std::string& content : contents) {
    threads.emplace_back([&store, &content] {
      auto upload = store->BeginUpload(DigestOf(content));
      ASSERT_TRUE(upload.ok()) << upload.status();
      EXPECT_EQ(Send(*upload, content), absl::OkStatus());
      EXPECT_EQ(upload->Finish(), absl::OkStatus());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& content : contents) {
    EXPECT_EQ(ReadAll(*store, DigestOf(content)), content);
  }
  EXPECT_EQ(store->Usage().blobs, 8);
}

// Writers that take the same blob from each other, while others ask, read, delete and expire.
TEST_F(BlobRivalsTest, RivalsForOneBlobLeaveItWhole) {
  const auto store = Open({.takeover_after = absl::Microseconds(100)});
  const std::string content = RandomBytes(200, 10 * kInterval);
  const Digest digest = DigestOf(content);
  const auto write = [&] {
    while (true) {
      auto upload = store->BeginUpload(digest);
      if (absl::IsAlreadyExists(upload.status())) return;
      ASSERT_TRUE(upload.ok()) << upload.status();
      absl::Status status = Send(*upload, content, static_cast<size_t>(upload->committed_bytes()));
      if (status.ok()) status = upload->Finish();
      // Between BeginUpload and here another may have written, finished or deleted it.
      EXPECT_TRUE(status.ok() || absl::IsAborted(status) || absl::IsOutOfRange(status) ||
                  absl::IsAlreadyExists(status))
          << status;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(write);
  threads.emplace_back([&] {
    for (int i = 0; i < 50; ++i) {
      const BlobStatus status = store->Status(digest);
      if (status.committed_bytes > 0) store->ReadCommitted(digest, 0, 1).status().IgnoreError();
      store->FindMissing({digest, DigestOf("other")});
      store->Verify(digest).IgnoreError();
      if (i % 10 == 0) store->Delete(digest).IgnoreError();
      EXPECT_TRUE(store->ExpireUploads(absl::Now()).ok());
    }
  });
  threads.emplace_back([&] { EXPECT_EQ(store->Put(content).status(), absl::OkStatus()); });
  for (std::thread& thread : threads) thread.join();
  write();
  EXPECT_EQ(ReadAll(*store, digest), content);
  EXPECT_EQ(store->Verify(digest), absl::OkStatus());
  EXPECT_EQ(store->Usage().used_bytes, digest.size_bytes);
  EXPECT_EQ(store->Usage().blobs, 1);
  EXPECT_EQ(store->Usage().uploads, 0);
}

// A job reads weights while their upload ends. In memory if that can be, where nobody waits for a
// disk and the two meet more often.
TEST(BlobRivalsInMemoryTest, WhatWasCommittedIsReadableWhileItBecomesABlob) {
  const std::string memory = "/dev/shm";
  const testing::TemporaryDirectory directory(
      access(memory.c_str(), W_OK) == 0 ? memory : ::testing::TempDir());
  const auto store = *BlobStore::Open(directory.string(), {});
  constexpr size_t kBlobs = 500;
  std::vector<std::string> contents;
  for (size_t i = 0; i < kBlobs; ++i) contents.push_back(RandomBytes(300 + i, 100));
  std::atomic<size_t> committed = 0;
  std::thread reader([&] {
    for (size_t i = 0; (i = committed) <= kBlobs;) {
      if (i == 0) continue;
      const auto read = store->ReadCommitted(DigestOf(contents[i - 1]), 0, 100);
      EXPECT_EQ(read.status(), absl::OkStatus()) << "blob " << i;
    }
  });
  for (size_t i = 0; i < kBlobs; ++i) {
    auto upload = store->BeginUpload(DigestOf(contents[i]));
    EXPECT_TRUE(upload.ok()) << upload.status();
    if (!upload.ok()) break;
    EXPECT_EQ(upload->Append(0, contents[i]), absl::OkStatus());
    committed = i + 1;
    EXPECT_EQ(upload->Finish(), absl::OkStatus());
  }
  committed = kBlobs + 1;
  reader.join();
}

TEST_F(BlobRivalsTest, AnUploadBegunWhileItIsDeletedIsANewOne) {
  const auto store = Open();
  const Digest digest = DigestOf("never sent");
  std::atomic<bool> done = false;
  std::thread deleter([&] {
    while (!done) store->Delete(digest).IgnoreError();
  });
  const auto begin = [&] {
    for (int i = 0; i < 1000; ++i) {
      const auto upload = store->BeginUpload(digest);
      EXPECT_TRUE(upload.ok()) << upload.status();  // Above all it is not "is complete".
    }
  };
  std::thread rival(begin);
  begin();
  rival.join();
  done = true;
  deleter.join();
  ASSERT_TRUE(store->BeginUpload(digest).ok());
  EXPECT_EQ(store->Usage().uploads, 1);
  EXPECT_TRUE(std::filesystem::exists(PartPath(digest)));
}

}  // namespace
}  // namespace salient
