// Checks what a store finds when it is opened again, whoever left it behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/store/layout.h"
#include "server/store/partial_blob.h"
#include "tests/server/store/temporary_directory.h"

namespace salient {
namespace {

using ::salient::testing::FileContent;
using ::salient::testing::RandomBytes;
using ::salient::testing::TemporaryDirectory;
using ::salient::testing::WriteFile;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr int64_t kInterval = 1000;

std::unique_ptr<BlobStore> OpenStore(const TemporaryDirectory& directory) {
  auto store = BlobStore::Open(directory.string(), {.sync_interval_bytes = kInterval});
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

std::filesystem::path PartPath(const TemporaryDirectory& directory, const Digest& digest) {
  return directory / absl::StrCat("uploads/", BlobName(digest), ".part");
}

std::filesystem::path BlobPath(const TemporaryDirectory& directory, const Digest& digest) {
  return directory /
         absl::StrCat("blobs/sha256/", HexSha256(digest).substr(0, 2), "/", BlobName(digest));
}

std::string ReadAll(BlobStore& store, const Digest& digest) {
  auto reader = store.Read(digest);
  EXPECT_TRUE(reader.ok()) << reader.status();
  return reader.ok() ? *reader->Next(digest.size_bytes) : "";
}

TEST(PartialBlobTest, OnlyWholeIntervalsWithMoreBehindThemAreCertain) {
  EXPECT_EQ(PartialBlob::SyncedBytes(0, 1000), 0);
  EXPECT_EQ(PartialBlob::SyncedBytes(1, 1000), 0);
  EXPECT_EQ(PartialBlob::SyncedBytes(1000, 1000), 0);
  EXPECT_EQ(PartialBlob::SyncedBytes(1001, 1000), 1000);
  EXPECT_EQ(PartialBlob::SyncedBytes(2000, 1000), 1000);
  EXPECT_EQ(PartialBlob::SyncedBytes(2001, 1000), 2000);
}

TEST(BlobRecoveryTest, NamesAreDigestsAndNothingElse) {
  const Digest digest = DigestOf("abc");
  const std::string name = BlobName(digest);
  EXPECT_EQ(name, absl::StrCat(HexSha256(digest), "-3"));
  EXPECT_EQ(ParseBlobName(name), digest);
  const std::string hex = HexSha256(digest);
  const std::string bad[] = {"",
                             ".",
                             "..",
                             hex,
                             absl::StrCat(hex, "-"),
                             absl::StrCat(hex, "-03"),
                             absl::StrCat(hex, "-+3"),
                             absl::StrCat(hex, "- 3"),
                             absl::StrCat(hex, "--3"),
                             absl::StrCat(hex, "-3.part"),
                             absl::StrCat(hex, "-9223372036854775808"),
                             absl::StrCat(hex, "/3"),
                             absl::StrCat("../", name)};
  for (const std::string& text : bad) EXPECT_EQ(ParseBlobName(text), std::nullopt) << text;
}

TEST(BlobRecoveryTest, BlobsAndSyncedBytesSurviveTheProcess) {
  const std::string whole = RandomBytes(1, 1700);
  const std::string content = RandomBytes(2, 3 * kInterval);
  const Digest digest = DigestOf(content);
  // Left in the middle of an interval, at a boundary and one byte behind it.
  const std::pair<size_t, int64_t> cases[] = {{1, 0},       {999, 0},     {1000, 0},
                                              {1001, 1000}, {2500, 2000}, {3000, 2000}};
  for (const auto& [written, expected] : cases) {
    const TemporaryDirectory directory;
    {
      const auto store = OpenStore(directory);
      ASSERT_TRUE(store->Put(whole).ok());
      auto upload = store->BeginUpload(digest);
      ASSERT_TRUE(upload.ok()) << upload.status();
      ASSERT_EQ(upload->Append(0, content.substr(0, written)), absl::OkStatus());
    }
    const auto store = OpenStore(directory);
    EXPECT_EQ(store->recovery().blobs, 1);
    EXPECT_EQ(store->recovery().uploads, 1);
    EXPECT_EQ(store->recovery().foreign, 0);
    EXPECT_EQ(store->Usage().used_bytes, 1700 + 3 * kInterval);
    EXPECT_EQ(ReadAll(*store, DigestOf(whole)), whole);
    EXPECT_EQ(store->Status(digest).committed_bytes, expected) << written << " were written";
    EXPECT_FALSE(store->Status(digest).complete);
    auto upload = store->BeginUpload(digest);
    ASSERT_TRUE(upload.ok()) << upload.status();
    ASSERT_EQ(upload->Append(expected, content.substr(static_cast<size_t>(expected))),
              absl::OkStatus());
    ASSERT_EQ(upload->Finish(), absl::OkStatus()) << written << " were written";
    EXPECT_EQ(ReadAll(*store, digest), content);
  }
}

// No destructor runs: the process is gone in the middle of an upload.
TEST(BlobRecoveryTest, AKilledProcessLeavesAnUploadThatGoesOn) {
  const TemporaryDirectory directory;
  const std::string content = RandomBytes(3, 5 * kInterval);
  const Digest digest = DigestOf(content);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto store = OpenStore(directory);
    auto upload = store->BeginUpload(digest);
    const bool ok = upload.ok() && upload->Append(0, content.substr(0, 3456)).ok();
    _exit(ok ? 0 : 1);
  }
  int exit_status = 1;
  ASSERT_EQ(waitpid(child, &exit_status, 0), child);
  ASSERT_EQ(exit_status, 0);
  const auto store = OpenStore(directory);
  EXPECT_EQ(store->Status(digest).committed_bytes, 3000);
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(3000, content.substr(3000)), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST(BlobRecoveryTest, ATornUploadNeverBecomesABlob) {
  const std::string content = RandomBytes(4, 3 * kInterval);
  const Digest digest = DigestOf(content);
  std::string zero_tail = content.substr(0, 2500);
  for (size_t i = 2100; i < zero_tail.size(); ++i) zero_tail[i] = '\0';
  std::string damaged_head = content.substr(0, 2500);
  damaged_head[10] ^= 1;
  struct Case {
    const char* name;
    std::string left;
    bool good;  // Then what counts as synced is the content's.
  };
  const Case cases[] = {
      {"zeros behind the synced part", zero_tail, true},
      {"longer than announced", absl::StrCat(content, content), true},
      {"empty", "", true},
      {"damaged inside the synced part", damaged_head, false},
  };
  for (const Case& torn : cases) {
    const TemporaryDirectory directory;
    WriteFile(PartPath(directory, digest), torn.left);
    const auto store = OpenStore(directory);
    auto upload = store->BeginUpload(digest);
    ASSERT_TRUE(upload.ok()) << upload.status();
    const int64_t from = upload->committed_bytes();
    EXPECT_EQ(from, torn.left.empty() ? 0 : 2000) << torn.name;
    ASSERT_EQ(upload->Append(from, content.substr(static_cast<size_t>(from))), absl::OkStatus());
    const absl::Status finished = upload->Finish();
    if (torn.good) {
      EXPECT_EQ(finished, absl::OkStatus()) << torn.name;
      EXPECT_EQ(ReadAll(*store, digest), content) << torn.name;
    } else {
      EXPECT_EQ(finished.code(), absl::StatusCode::kInvalidArgument) << torn.name;
      EXPECT_EQ(store->Status(digest).committed_bytes, 0) << "discarded";
    }
  }
}

TEST(BlobRecoveryTest, OfSeveralUploadsOfOneBlobTheLongestStays) {
  const TemporaryDirectory directory;
  const std::string content = RandomBytes(8, 3 * kInterval);
  const Digest digest = DigestOf(content);
  const auto part = [&](int number) {
    return directory / absl::StrCat("uploads/", BlobName(digest), ".", number, ".part");
  };
  WriteFile(PartPath(directory, digest), content.substr(0, 1001));
  WriteFile(part(1), content.substr(0, 2001));
  WriteFile(part(2), content.substr(0, 500));
  WriteFile(directory / absl::StrCat("uploads/", BlobName(digest), ".01.part"), "foreign");
  const auto store = OpenStore(directory);
  EXPECT_EQ(store->recovery().uploads, 1);
  EXPECT_EQ(store->recovery().foreign, 1);
  EXPECT_EQ(store->Usage().used_bytes, 3 * kInterval);
  EXPECT_FALSE(std::filesystem::exists(PartPath(directory, digest)));
  EXPECT_TRUE(std::filesystem::exists(part(1)));
  EXPECT_FALSE(std::filesystem::exists(part(2)));
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(2000, content.substr(2000)), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST(BlobRecoveryTest, AnUploadCutBehindOurBackFallsBack) {
  const TemporaryDirectory directory;
  const std::string content = RandomBytes(5, 3 * kInterval);
  const Digest digest = DigestOf(content);
  const auto store = OpenStore(directory);
  {
    auto upload = store->BeginUpload(digest);
    ASSERT_TRUE(upload.ok()) << upload.status();
    ASSERT_EQ(upload->Append(0, content.substr(0, 2500)), absl::OkStatus());
  }
  std::filesystem::resize_file(PartPath(directory, digest), 1200);
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_EQ(upload->committed_bytes(), 1000);
  ASSERT_EQ(upload->Append(1000, content.substr(1000)), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
}

TEST(BlobRecoveryTest, TheVerifiedOneOfTwoNamesStays) {
  const TemporaryDirectory directory;
  const std::string content = RandomBytes(6, 2500);
  const Digest digest = DigestOf(content);
  WriteFile(PartPath(directory, digest), content);
  WriteFile(BlobPath(directory, digest), content);
  const auto store = OpenStore(directory);
  EXPECT_TRUE(store->Status(digest).complete);
  EXPECT_FALSE(std::filesystem::exists(PartPath(directory, digest)));
  EXPECT_EQ(store->Usage().used_bytes, 2500);
}

TEST(BlobRecoveryTest, ABlobWithoutItsSizeGoesToQuarantine) {
  const TemporaryDirectory directory;
  const Digest digest = DigestOf("content");
  WriteFile(BlobPath(directory, digest), "conte");
  const auto store = OpenStore(directory);
  EXPECT_EQ(store->recovery().quarantined, 1);
  EXPECT_THAT(store->recovery().remarks, Contains(HasSubstr("has 5 bytes; moved to quarantine")));
  EXPECT_FALSE(store->Status(digest).complete);
  EXPECT_EQ(FileContent(directory / absl::StrCat("quarantine/", BlobName(digest))), "conte");
  EXPECT_TRUE(store->Put("content").ok());
}

TEST(BlobRecoveryTest, ForeignNamesAreLeftAloneAndReported) {
  const TemporaryDirectory directory;
  const Digest digest = DigestOf("content");
  const std::string hex = HexSha256(digest);
  const std::string foreign[] = {
      "uploads/notes.txt",
      "uploads/\x01\xff.part",
      absl::StrCat("uploads/", hex, "-07.part"),
      absl::StrCat("uploads/", BlobName(digest)),
      "blobs/sha256/README",
      absl::StrCat("blobs/sha256/zz/", BlobName(digest)),
      absl::StrCat("blobs/sha256/00/", BlobName(digest)),  // Its shard is another.
      absl::StrCat("blobs/sha256/", hex.substr(0, 2), "/", BlobName(digest), ".part"),
  };
  for (const std::string& name : foreign) WriteFile(directory / name, "content");
  std::filesystem::create_directory(PartPath(directory, DigestOf("directory")));
  std::filesystem::create_symlink("/etc/hostname", PartPath(directory, DigestOf("link")));
  std::filesystem::create_directory_symlink("/etc", directory / "blobs/sha256/11");
  const auto store = OpenStore(directory);
  EXPECT_EQ(store->recovery().foreign, 8 + 3);
  EXPECT_EQ(store->recovery().blobs, 0);
  EXPECT_EQ(store->recovery().uploads, 0);
  EXPECT_EQ(store->Usage().used_bytes, 0);
  EXPECT_THAT(store->recovery().remarks, Contains(HasSubstr("uploads/notes.txt")));
  EXPECT_THAT(store->recovery().remarks, Contains(HasSubstr("uploads/\\x01\\xff.part")));
  for (const std::string& name : foreign) {
    EXPECT_EQ(FileContent(directory / name), "content") << name;
  }
}

TEST(BlobRecoveryTest, LinksAreNotFollowed) {
  const TemporaryDirectory outside;
  WriteFile(outside / "victim", "untouched");
  {
    const TemporaryDirectory directory;
    const auto store = OpenStore(directory);
    const Digest digest = DigestOf("content");
    std::filesystem::create_symlink(outside / "victim", PartPath(directory, digest));
    const auto upload = store->BeginUpload(digest);
    EXPECT_EQ(upload.status().code(), absl::StatusCode::kFailedPrecondition) << upload.status();

    const Digest blob = *store->Put("victims");
    std::filesystem::remove(BlobPath(directory, blob));
    std::filesystem::create_symlink(outside / "victim", BlobPath(directory, blob));
    EXPECT_FALSE(store->Read(blob).ok());

    const std::filesystem::path fifo = PartPath(directory, DigestOf("fifo"));
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_FALSE(store->BeginUpload(DigestOf("fifo")).ok()) << "and it did not wait";
  }
  EXPECT_EQ(FileContent(outside / "victim"), "untouched");

  const TemporaryDirectory directory;
  std::filesystem::create_directory_symlink(outside / ".", directory / "uploads");
  EXPECT_EQ(BlobStore::Open(directory.string(), {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(BlobRecoveryTest, OthersMayNotLookInside) {
  const TemporaryDirectory parent;
  const std::filesystem::path root = parent / "store";
  auto store = BlobStore::Open(root.string(), {});
  ASSERT_TRUE(store.ok()) << store.status();
  const Digest digest = *(*store)->Put("content");
  const std::string shard = HexSha256(digest).substr(0, 2);
  using std::filesystem::perms;
  for (const std::filesystem::path& path :
       {root, root / "uploads", root / "blobs", root / "blobs/sha256",
        root / "blobs/sha256" / shard, root / "quarantine"}) {
    EXPECT_EQ(std::filesystem::status(path).permissions(), perms::owner_all) << path;
  }
  const auto file = std::filesystem::status(root / "blobs/sha256" / shard / BlobName(digest));
  EXPECT_EQ(file.permissions(), perms::owner_read | perms::owner_write);
}

TEST(BlobRecoveryTest, OneStoreADirectory) {
  const TemporaryDirectory directory;
  auto first = BlobStore::Open(directory.string(), {});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = BlobStore::Open(directory.string(), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(second.status().message(), HasSubstr("in use by another server"));
  first = absl::CancelledError();
  EXPECT_TRUE(BlobStore::Open(directory.string(), {}).ok());
}

TEST(BlobRecoveryTest, WhatCannotBeOpenedIsSaidByName) {
  const TemporaryDirectory directory;
  const auto absent = BlobStore::Open((directory / "a/b").string(), {});
  EXPECT_EQ(absent.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(absent.status().message(), HasSubstr("/a/b"));
  const auto limits = BlobStore::Open(directory.string(), {.max_uploads = 0});
  EXPECT_EQ(limits.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(limits.status().message(), HasSubstr("max_uploads is 0; expected at least 1"));
}

TEST(BlobRecoveryTest, TheCapacityIsAtMostTheDisks) {
  const TemporaryDirectory directory;
  const auto disk_bytes = static_cast<int64_t>(std::filesystem::space(directory / ".").capacity);
  const auto store = BlobStore::Open(directory.string(), {.capacity_bytes = INT64_MAX});
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_GT((*store)->limits().capacity_bytes, 0);
  EXPECT_LE((*store)->limits().capacity_bytes, disk_bytes);
  EXPECT_THAT((*store)->recovery().remarks, Contains(HasSubstr("but its disk has")));
  EXPECT_EQ((*store)->recovery().foreign, 0);
  const auto upload =
      (*store)->BeginUpload({DigestOf("large").sha256, (*store)->limits().capacity_bytes + 1});
  EXPECT_EQ(upload.status().code(), absl::StatusCode::kInvalidArgument) << "it can never fit";
  EXPECT_THAT(upload.status().message(), HasSubstr("all that the store holds"));
}

TEST(BlobRecoveryTest, AnUploadOfAnEarlierProcessExpires) {
  const TemporaryDirectory directory;
  const Digest digest = DigestOf(RandomBytes(7, 2500));
  WriteFile(PartPath(directory, digest), RandomBytes(7, 1500));
  const auto store = OpenStore(directory);
  EXPECT_EQ(*store->ExpireUploads(absl::Now() + absl::Hours(23)), 0);
  EXPECT_EQ(*store->ExpireUploads(absl::Now() + absl::Hours(25)), 1);
  EXPECT_FALSE(std::filesystem::exists(PartPath(directory, digest)));
  EXPECT_EQ(store->Usage().uploads, 0);
}

}  // namespace
}  // namespace salient
