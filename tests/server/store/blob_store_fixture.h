// A store in a directory that goes away with the test, whole blobs sent to it and read back.
#ifndef SALIENT_TESTS_SERVER_STORE_BLOB_STORE_FIXTURE_H_
#define SALIENT_TESTS_SERVER_STORE_BLOB_STORE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/store/layout.h"
#include "server/store/upload.h"
#include "tests/server/store/temporary_directory.h"

namespace salient::testing {

class BlobStoreFixture : public ::testing::Test {
 protected:
  static constexpr int64_t kInterval = 1000;  // It lies between syncs of an upload.

  std::unique_ptr<BlobStore> Open(BlobStoreLimits limits = {}) {
    limits.sync_interval_bytes = kInterval;
    return OpenWith(limits);
  }
  // Opens a store with the usual interval, for uploads that are longer.
  std::unique_ptr<BlobStore> OpenWith(const BlobStoreLimits& limits) {
    auto store = BlobStore::Open(directory_.string(), limits);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  // Sends `content` from `offset` in pieces.
  static absl::Status Send(Upload& upload, const std::string& content, size_t offset = 0,
                           size_t piece = 700) {
    for (size_t at = offset; at < content.size(); at += piece) {
      absl::Status status = upload.Append(static_cast<int64_t>(at), content.substr(at, piece));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  static std::string ReadAll(BlobStore& store, const Digest& digest, int64_t offset = 0,
                             int64_t limit = 0) {
    auto reader = store.Read(digest, offset, limit);
    EXPECT_TRUE(reader.ok()) << reader.status();
    std::string all;
    while (reader.ok()) {
      const auto bytes = reader->Next(333);
      EXPECT_TRUE(bytes.ok()) << bytes.status();
      if (!bytes.ok() || bytes->empty()) break;
      all += *bytes;
    }
    return all;
  }

  std::string PartPath(const Digest& digest) const {
    return (directory_ / absl::StrCat("uploads/", BlobName(digest), ".part")).string();
  }
  std::string BlobPath(const Digest& digest) const {
    return (directory_ /
            absl::StrCat("blobs/sha256/", HexSha256(digest).substr(0, 2), "/", BlobName(digest)))
        .string();
  }

  const TemporaryDirectory directory_;
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SERVER_STORE_BLOB_STORE_FIXTURE_H_
