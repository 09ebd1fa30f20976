// Results that become blobs while clients upload blobs of the same name.
#include "server/jobs/result_blobs.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "server/store/upload.h"
#include "tests/server/store/blob_store_fixture.h"

namespace salient {
namespace {

using ResultBlobsTest = testing::BlobStoreFixture;

// A large tensor goes to the store piece by piece; what a client does meanwhile must not end a job.
TEST_F(ResultBlobsTest, AClientThatUploadsTheSameBlobDoesNotDisturbTheWriting) {
  const auto store = Open();
  ResultBlobs blobs(*store);
  ResultBlobs::Hold hold(blobs);
  const std::string content = testing::RandomBytes(1, 3 * kInterval);
  const Digest digest = DigestOf(content);
  std::optional<Upload> client;
  int writings = 0;
  const absl::Status written = hold.Write(digest, [&](Upload& upload) -> absl::Status {
    absl::Status status = upload.Append(0, content.substr(0, kInterval));
    if (++writings == 1) {
      client = *store->BeginUpload(digest);
      EXPECT_EQ(client->Append(client->committed_bytes(), "not what the digest says"),
                absl::OkStatus());
    }
    return status.ok() ? Send(upload, content, kInterval) : status;
  });
  EXPECT_EQ(written, absl::OkStatus());
  EXPECT_EQ(writings, 1);
  EXPECT_TRUE(ReadAll(*store, digest) == content);
  EXPECT_TRUE(absl::IsAlreadyExists(client->Append(client->committed_bytes(), "more")));
  hold.Release();
  EXPECT_FALSE(store->Status(digest).complete) << "it belongs to the job";
}

TEST_F(ResultBlobsTest, WhatAClientFinishesMeanwhileIsTheResult) {
  const auto store = Open();
  ResultBlobs blobs(*store);
  ResultBlobs::Hold hold(blobs);
  const std::string content = testing::RandomBytes(2, 3 * kInterval);
  const Digest digest = DigestOf(content);
  const absl::Status written = hold.Write(digest, [&](Upload& upload) -> absl::Status {
    auto client = store->BeginUpload(digest);
    EXPECT_EQ(Send(*client, content), absl::OkStatus());
    EXPECT_EQ(client->Finish(), absl::OkStatus());
    return Send(upload, content);
  });
  EXPECT_EQ(written, absl::OkStatus());
  hold.Release();
  EXPECT_TRUE(ReadAll(*store, digest) == content) << "it belongs to the client";
}

TEST_F(ResultBlobsTest, WhatAClientFinishedStaysThoughTheWritingFails) {
  const auto store = Open();
  ResultBlobs blobs(*store);
  ResultBlobs::Hold hold(blobs);
  const std::string content = testing::RandomBytes(4, 3 * kInterval);
  const Digest digest = DigestOf(content);
  const absl::Status written = hold.Write(digest, [&](Upload& /*upload*/) -> absl::Status {
    auto client = store->BeginUpload(digest);
    EXPECT_EQ(Send(*client, content), absl::OkStatus());
    EXPECT_EQ(client->Finish(), absl::OkStatus());
    return absl::CancelledError("the job was stopped");
  });
  EXPECT_TRUE(store->Status(digest).complete) << written;
}

TEST_F(ResultBlobsTest, AWritingThatFailsLeavesNothing) {
  const auto store = Open();
  ResultBlobs blobs(*store);
  ResultBlobs::Hold hold(blobs);
  const std::string content = testing::RandomBytes(3, 3 * kInterval);
  const absl::Status written = hold.Write(DigestOf(content), [&](Upload& upload) -> absl::Status {
    EXPECT_EQ(Send(upload, content.substr(0, kInterval)), absl::OkStatus());
    return absl::CancelledError("the job was stopped");
  });
  EXPECT_TRUE(absl::IsCancelled(written)) << written;
  EXPECT_EQ(store->Usage().uploads, 0);
  EXPECT_EQ(store->Usage().used_bytes, 0);
}

}  // namespace
}  // namespace salient
