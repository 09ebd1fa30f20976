#include "server/store/blob_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/server/store/blob_store_fixture.h"

namespace salient {
namespace {

using ::salient::testing::FileContent;
using ::salient::testing::RandomBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using BlobStoreTest = testing::BlobStoreFixture;

TEST_F(BlobStoreTest, WhatWasUploadedIsRead) {
  const auto store = Open();
  const std::string content = RandomBytes(1, 5 * kInterval + 17);
  const Digest digest = DigestOf(content);
  EXPECT_THAT(store->FindMissing({digest}), ElementsAre(digest));
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(Send(*upload, content), absl::OkStatus());
  EXPECT_EQ(store->Status(digest).committed_bytes, digest.size_bytes);
  EXPECT_FALSE(store->Status(digest).complete) << "before it was verified";
  EXPECT_EQ(store->Read(digest).status().code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(upload->Finish(), absl::OkStatus());

  EXPECT_TRUE(store->Status(digest).complete);
  EXPECT_THAT(store->FindMissing({digest}), IsEmpty());
  EXPECT_EQ(ReadAll(*store, digest), content);
  EXPECT_EQ(FileContent(BlobPath(digest)), content);
  EXPECT_FALSE(std::filesystem::exists(PartPath(digest)));
  EXPECT_EQ(store->Verify(digest), absl::OkStatus());
  EXPECT_EQ(store->Usage().blobs, 1);
  EXPECT_EQ(store->Usage().uploads, 0);
  EXPECT_EQ(store->Usage().used_bytes, digest.size_bytes);
  EXPECT_EQ(store->BeginUpload(digest).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(upload->Append(digest.size_bytes, "").code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(BlobStoreTest, FindMissingKeepsTheOrderOfTheRequest) {
  const auto store = Open();
  const Digest here = *store->Put("here");
  const Digest a = DigestOf("a");
  const Digest b = DigestOf("b");
  EXPECT_THAT(store->FindMissing({b, here, DigestOf(""), a, b}), ElementsAre(b, a, b));
  // The size is part of the name.
  const Digest longer = {here.sha256, here.size_bytes + 1};
  EXPECT_THAT(store->FindMissing({longer}), ElementsAre(longer));
}

TEST_F(BlobStoreTest, TheEmptyBlobIsAlwaysThere) {
  const auto store = Open();
  const Digest empty = DigestOf("");
  EXPECT_TRUE(store->Status(empty).complete);
  EXPECT_EQ(ReadAll(*store, empty), "");
  EXPECT_EQ(store->Verify(empty), absl::OkStatus());
  EXPECT_EQ(store->BeginUpload(empty).status().code(), absl::StatusCode::kAlreadyExists);
  // No other digest has size 0.
  Digest impossible = DigestOf("x");
  impossible.size_bytes = 0;
  auto upload = store->BeginUpload(impossible);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_EQ(upload->Finish().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(BlobStoreTest, PutReplacesWhatAClientSentOfTheSameBlob) {
  const auto store = Open();
  const std::string content = RandomBytes(8, 2500);
  auto upload = store->BeginUpload(DigestOf(content));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, std::string(1100, 'x')), absl::OkStatus());
  const auto digest = store->Put(content);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, DigestOf(content));
  EXPECT_EQ(ReadAll(*store, *digest), content);
  EXPECT_EQ(upload->Append(1100, "x").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(store->Put(content).status(), absl::OkStatus()) << "again";
  EXPECT_EQ(store->Usage().used_bytes, 2500);
}

TEST_F(BlobStoreTest, DeletingABlobLeavesItsReadersAndAbortsItsWriter) {
  const auto store = Open();
  const std::string content = RandomBytes(11, 2500);
  const Digest digest = *store->Put(content);
  auto reader = store->Read(digest);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(store->Delete(digest), absl::OkStatus());
  EXPECT_EQ(*reader->Next(2500), content);
  EXPECT_EQ(store->Delete(digest).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(BlobPath(digest)));

  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 100)), absl::OkStatus());
  EXPECT_EQ(store->Delete(digest), absl::OkStatus());
  EXPECT_EQ(upload->Append(100, "x").code(), absl::StatusCode::kAborted);
  EXPECT_FALSE(std::filesystem::exists(PartPath(digest)));
  EXPECT_EQ(store->Usage().used_bytes, 0);
  EXPECT_EQ(store->Usage().uploads, 0);
}

TEST_F(BlobStoreTest, CapacityCountsUploadsAtTheirAnnouncedSize) {
  const auto store = Open({.capacity_bytes = 3000, .max_uploads = 2});
  const Digest large = DigestOf(RandomBytes(12, 2000));
  const Digest small = DigestOf(RandomBytes(13, 1000));
  const Digest tiny = DigestOf("t");
  EXPECT_EQ(store->BeginUpload(DigestOf(RandomBytes(14, 3001))).status().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(store->BeginUpload(large).ok());
  EXPECT_EQ(store->Usage().used_bytes, 2000);
  EXPECT_EQ(store->BeginUpload(DigestOf(RandomBytes(15, 1001))).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store->Put(RandomBytes(15, 1001)).status().code(),
            absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(store->Put(RandomBytes(13, 1000)).ok());
  EXPECT_TRUE(store->BeginUpload(large).ok()) << "what was begun may go on";
  EXPECT_EQ(store->BeginUpload(tiny).status().code(), absl::StatusCode::kResourceExhausted);
  ASSERT_EQ(store->Delete(small), absl::OkStatus());
  ASSERT_TRUE(store->BeginUpload(tiny).ok());
  const auto too_many = store->BeginUpload(DigestOf("u"));
  EXPECT_EQ(too_many.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(too_many.status().message(), HasSubstr("2 uploads are unfinished"));
}

// Else clients that begin and do not finish could end every job.
TEST_F(BlobStoreTest, UploadsThatClientsLeaveOpenDoNotStopWhatIsMadeHere) {
  const auto store = Open({.max_uploads = 2});
  ASSERT_TRUE(store->BeginUpload(DigestOf("a")).ok());
  ASSERT_TRUE(store->BeginUpload(DigestOf("b")).ok());
  ASSERT_TRUE(absl::IsResourceExhausted(store->BeginUpload(DigestOf("c")).status()));
  EXPECT_EQ(store->PutAll({{DigestOf("d"), "d"}, {DigestOf("e"), "e"}}), absl::OkStatus());
  auto upload = store->BeginUpload(DigestOf("f"), BlobStore::Maker::kServer);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, "f"), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
  EXPECT_EQ(store->Usage().blobs, 3);
  EXPECT_EQ(store->Usage().uploads, 2);
}

TEST_F(BlobStoreTest, AWholeMayBePutTwiceAtOnce) {
  const auto store = Open();
  const BlobStore::Whole whole = {DigestOf("whole"), "whole"};
  EXPECT_EQ(store->PutAll({whole, whole}), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, whole.digest), "whole");
  EXPECT_EQ(store->Usage().blobs, 1);
  EXPECT_EQ(store->Usage().used_bytes, whole.digest.size_bytes);
}

}  // namespace
}  // namespace salient
