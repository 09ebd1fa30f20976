#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <string>

#include "client/transfer/blob_download.h"
#include "client/transfer/blob_upload.h"
#include "client/transfer/call_group.h"
#include "client/transfer/file_digest.h"
#include "client/transfer/local_blob.h"
#include "tests/client/fake_job_server.h"
#include "tests/client/file_contents.h"
#include "tests/client/tensor_files.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kChunk = int64_t{1} << 20;

std::string Pattern(size_t size, uint32_t seed) {
  std::string bytes(size, '\0');
  for (char& c : bytes) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return bytes;
}

// The digests are the examples of FIPS 180-4's appendix.
TEST(FileDigestTest, IsSha256AndSize) {
  EXPECT_EQ(DigestText(DigestOfBytes("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/3");
  EXPECT_EQ(DigestText(DigestOfBytes("")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0");
}

TEST(FileDigestTest, FileIsReadToItsEnd) {
  const TemporaryDirectory directory;
  const std::string content = Pattern(3 * kChunk + 17, 1);
  std::ofstream(directory.File("f"), std::ios::binary) << content;
  int64_t read = 0;
  const auto digest = DigestOfFile(directory.File("f"), [&](int64_t bytes) {
    read += bytes;
    return true;
  });
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(digest->sha256(), DigestOfBytes(content).sha256());
  EXPECT_EQ(read, 3 * kChunk + 17);
  EXPECT_EQ(DigestOfFile(directory.File("f"), [](int64_t) { return false; }).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(DigestOfFile(directory.File("none"), [](int64_t) { return true; }).status().code(),
            absl::StatusCode::kNotFound);
}

class BlobTransferTest : public ::testing::Test {
 protected:
  absl::Status Upload(const LocalBlob& blob) {
    committed_ = 0;
    return UploadBlob(server_.Connect(), calls_, blob,
                      [this](int64_t bytes) { committed_ += bytes; });
  }
  absl::Status Download(const v1::Digest& digest) {
    taken_.clear();
    return DownloadBlob(server_.Connect(), calls_, digest, [this](absl::string_view bytes) {
      taken_.append(bytes.data(), bytes.size());
      return absl::OkStatus();
    });
  }

  FakeJobServer server_;
  CallGroup calls_;
  int64_t committed_ = 0;
  std::string taken_;
};

TEST_F(BlobTransferTest, FileGoesUpInChunks) {
  const TemporaryDirectory directory;
  const std::string content = Pattern(2 * kChunk + 5, 2);
  std::ofstream(directory.File("f"), std::ios::binary) << content;
  const LocalBlob blob = {DigestOfBytes(content), directory.File("f"), std::nullopt};
  ASSERT_TRUE(Upload(blob).ok());
  EXPECT_TRUE(server_.Has(blob.digest));
  EXPECT_EQ(committed_, 2 * kChunk + 5);
  EXPECT_EQ(server_.ReceivedBytes(), 2 * kChunk + 5);
}

TEST_F(BlobTransferTest, OnlyMissingBlobsAreFoundEachOnce) {
  const LocalBlob there = InMemory("there");
  const LocalBlob missing = InMemory("missing");
  const LocalBlob too = InMemory("missing too");
  server_.Hold("there");
  const auto found = FindMissing(server_.Connect(), calls_, {{too, there, missing, missing, too}});
  ASSERT_TRUE(found.ok()) << found.status();
  std::vector<std::string> contents;
  for (const LocalBlob& blob : *found) contents.push_back(*blob.content);
  EXPECT_THAT(contents, ElementsAre("missing too", "missing"));
}

TEST_F(BlobTransferTest, BrokenUploadGoesOnBehindWhatIsCommitted) {
  const LocalBlob blob = InMemory(Pattern(4 * kChunk, 3));
  server_.BreakNextUpload({2, {grpc::StatusCode::UNAVAILABLE, "gone"}});
  server_.BreakNextUpload({1, {grpc::StatusCode::UNAVAILABLE, "gone again"}});
  const absl::Status uploaded = Upload(blob);
  ASSERT_TRUE(uploaded.ok()) << uploaded;
  EXPECT_TRUE(server_.Has(blob.digest));
  EXPECT_EQ(committed_, 4 * kChunk) << "every byte is told of once";
  EXPECT_EQ(server_.ReceivedBytes(), 4 * kChunk) << "no committed byte is sent again";
}

TEST_F(BlobTransferTest, AnotherWriterIsWaitedFor) {
  const LocalBlob blob = InMemory(Pattern(kChunk, 4));
  server_.BreakNextUpload({0, {grpc::StatusCode::ABORTED, "a newer writer took over"}});
  server_.BreakNextUpload({0, {grpc::StatusCode::OUT_OF_RANGE, "not at committed_bytes"}});
  EXPECT_TRUE(Upload(blob).ok());
  EXPECT_TRUE(server_.Has(blob.digest));
}

TEST_F(BlobTransferTest, WhatAnotherSentIsNotTrustedTwice) {
  const std::string content = Pattern(2 * kChunk, 7);
  const LocalBlob blob = InMemory(content);
  server_.Commit(blob.digest, std::string(kChunk, '#'));
  const absl::Status uploaded = Upload(blob);
  ASSERT_TRUE(uploaded.ok()) << uploaded;
  EXPECT_TRUE(server_.Has(blob.digest));
  EXPECT_EQ(committed_, 2 * kChunk);
  EXPECT_EQ(server_.ReceivedBytes(), 3 * kChunk) << "the rest of it, then all";
}

TEST_F(BlobTransferTest, AnotherWriterIsNotWaitedForForEver) {
  const std::string content = Pattern(2 * kChunk, 8);
  const LocalBlob blob = InMemory(content);
  server_.Commit(blob.digest, content.substr(0, kChunk));
  for (int i = 0; i < 5; ++i) {
    server_.BreakNextUpload({0, {grpc::StatusCode::ABORTED, "somebody is sending"}});
  }
  ASSERT_TRUE(Upload(blob).ok());
  EXPECT_EQ(server_.ReceivedBytes(), 2 * kChunk) << "all of it";
}

TEST_F(BlobTransferTest, ChunksThatAreAlwaysDamagedAreGivenUp) {
  for (int i = 0; i < 10; ++i) {
    server_.BreakNextUpload({0, {grpc::StatusCode::DATA_LOSS, "crc32c"}});
  }
  EXPECT_EQ(Upload(InMemory("abc")).code(), absl::StatusCode::kDataLoss);
}

TEST_F(BlobTransferTest, RefusalIsNotTriedAgainAndNamesTheFile) {
  server_.BreakNextUpload({0, {grpc::StatusCode::INVALID_ARGUMENT, "not its sha256"}});
  const absl::Status status = Upload(InMemory("abc"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("bytes of a test"));
}

TEST_F(BlobTransferTest, FileThatShrankIsNamed) {
  const TemporaryDirectory directory;
  std::ofstream(directory.File("f"), std::ios::binary) << "short";
  const absl::Status status =
      Upload({DigestOfBytes("longer than the file"), directory.File("f"), std::nullopt});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(directory.File("f") + " ends at byte 5; expected 20"));
  EXPECT_THAT(server_.Uploaded(), IsEmpty());
}

TEST_F(BlobTransferTest, CancelledGroupEndsAnUpload) {
  calls_.Cancel();
  EXPECT_EQ(Upload(InMemory("abc")).code(), absl::StatusCode::kCancelled);
}

TEST_F(BlobTransferTest, BlobComesDown) {
  const std::string content = Pattern(123456, 5);
  const absl::Status status = Download(server_.Hold(content));
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(taken_, content);
  EXPECT_TRUE(Download(DigestOfBytes("")).ok()) << "the empty blob is everywhere";
}

TEST_F(BlobTransferTest, BrokenDownloadGoesOnBehindWhatCame) {
  const std::string content = Pattern(5500, 6);
  server_.BreakNextDownload({2, {grpc::StatusCode::UNAVAILABLE, "gone"}});
  server_.BreakNextDownload({3, {grpc::StatusCode::UNAVAILABLE, "gone again"}});
  const absl::Status status = Download(server_.Hold(content));
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(taken_, content);
}

// A chunk that does not have its crc32c is fetched again; nothing of it is taken.
TEST_F(BlobTransferTest, DamagedChunkIsFetchedAgain) {
  const std::string content = Pattern(2500, 7);
  server_.SpoilDownloads(1, [](v1::Chunk& chunk) { (*chunk.mutable_data())[3] ^= 1; });
  const absl::Status status = Download(server_.Hold(content));
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(taken_, content);
}

TEST_F(BlobTransferTest, WhatAServerMustNotSendIsNotBelieved) {
  const v1::Digest digest = server_.Hold(Pattern(2500, 8));
  server_.SpoilDownloads(100, [](v1::Chunk& chunk) { (*chunk.mutable_data())[3] ^= 1; });
  EXPECT_EQ(Download(digest).code(), absl::StatusCode::kDataLoss);
  server_.SpoilDownloads(
      1, [](v1::Chunk& chunk) { chunk.set_offset_bytes(chunk.offset_bytes() + 1); });
  EXPECT_EQ(Download(digest).code(), absl::StatusCode::kInternal);
  server_.SpoilDownloads(1, [](v1::Chunk& chunk) {
    chunk.mutable_data()->append(5000, 'x');
    chunk.clear_crc32c();
  });
  EXPECT_EQ(Download(digest).code(), absl::StatusCode::kInternal);
  // Without a checksum only the digest can tell.
  server_.SpoilDownloads(1, [](v1::Chunk& chunk) {
    (*chunk.mutable_data())[3] ^= 1;
    chunk.clear_crc32c();
  });
  const absl::Status status = Download(digest);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("does not have its sha256"));
  EXPECT_EQ(Download(DigestOfBytes("never held")).code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace salient::client
