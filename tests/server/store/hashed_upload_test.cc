// Hashing what an earlier process wrote of an upload, in pieces.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/store/upload.h"
#include "tests/server/store/blob_store_fixture.h"

namespace salient {
namespace {

class HashedUploadTest : public testing::BlobStoreFixture {
 protected:
  // Opens the store after a process that wrote all of the blob, of which four intervals are
  // certain.
  std::unique_ptr<BlobStore> OpenAfterAnother() {
    {
      const auto earlier = Open();
      auto upload = earlier->BeginUpload(digest_);
      EXPECT_EQ(upload->Append(0, content_), absl::OkStatus());
    }
    return Open();
  }
  Upload BeginWithRest(BlobStore& store) {
    auto upload = store.BeginUpload(digest_);
    EXPECT_EQ(upload->committed_bytes(), 4 * kInterval);
    EXPECT_EQ(upload->Append(4 * kInterval, content_.substr(4 * kInterval)), absl::OkStatus());
    return *std::move(upload);
  }
  void Damage() {
    std::string damaged = content_;
    damaged[10] ^= 1;
    testing::WriteFile(PartPath(digest_), damaged);
  }

  const std::string content_ = testing::RandomBytes(5, 5 * kInterval);
  const Digest digest_ = DigestOf(content_);
};

TEST_F(HashedUploadTest, WhatWasHashedStaysHashed) {
  const auto store = OpenAfterAnother();
  {
    Upload first = BeginWithRest(*store);
    EXPECT_EQ(*first.HashMore(0), 5000);
    EXPECT_EQ(*first.HashMore(1500), 3500);
  }
  auto next = store->BeginUpload(digest_);
  EXPECT_EQ(*next->HashMore(1000), 2500) << "also for the next writer";
  EXPECT_EQ(*next->HashMore(100'000), 0);
  EXPECT_EQ(*next->HashMore(1), 0);
  Damage();
  EXPECT_EQ(next->Finish(), absl::OkStatus()) << "nothing is read again";
  EXPECT_TRUE(store->Status(digest_).complete);
  EXPECT_TRUE(absl::IsAlreadyExists(next->HashMore(1).status()));
}

TEST_F(HashedUploadTest, WhatIsHashedIsWhatWasRead) {
  const auto store = OpenAfterAnother();
  ASSERT_TRUE(store->ReadCommitted(digest_, 0, 4000)->Next(4000).ok());
  Upload upload = BeginWithRest(*store);
  Damage();
  EXPECT_TRUE(absl::IsDataLoss(upload.HashMore(1000).status()));
  EXPECT_EQ(store->Status(digest_).committed_bytes, 0) << "the upload is discarded";
  EXPECT_EQ(store->Usage().used_bytes, 0);
  EXPECT_TRUE(absl::IsAborted(upload.HashMore(1000).status()));
}

}  // namespace
}  // namespace salient
