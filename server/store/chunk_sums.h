// Keeps checksums of a blob's bytes as they came, by which every later read of them is judged.
#ifndef SALIENT_SERVER_STORE_CHUNK_SUMS_H_
#define SALIENT_SERVER_STORE_CHUNK_SUMS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/store/file.h"

namespace salient {

// Holds the CRC-32C of each chunk of one file. A chunk may be known in part, while the file grows,
// or not at all, if an earlier process wrote it: who reads such bytes first settles what they are,
// and whoever reads them later, or hashes the whole, must find the same. So a digest that was found
// right by reads through these sums vouches for every read through them, earlier ones included.
//
// The bytes of one ChunkSums never change; where a file is written anew it gets others. It is
// thread-safe.
class ChunkSums {
 public:
  // A read costs at least so much, also of one row of an embedding; a GiB takes 128 KiB of sums.
  static constexpr int64_t kChunkBytes = int64_t{64} << 10;

  explicit ChunkSums(int64_t size_bytes);
  // Copies what `other` knows of the chunks that end within the first `size_bytes`.
  ChunkSums(const ChunkSums& other, int64_t size_bytes);

  // Takes in bytes that were written behind what is known of their chunks. Others stay unknown.
  void Append(int64_t offset_bytes, absl::string_view data);

  // Fills `bytes` from `offset_bytes` of `file`, whole chunks of which are read. Returns DATA_LOSS
  // if they are not what they were, or end before; ABORTED if the file is written anew.
  absl::Status Read(const File& file, int64_t offset_bytes, absl::Span<char> bytes);

  // Returns whether all bytes that are known here are those that `read` gives, whose error ends it.
  using Reader = absl::FunctionRef<absl::Status(int64_t offset_bytes, absl::Span<char> bytes)>;
  absl::StatusOr<bool> AgreesWith(Reader read) const;

  // Makes all reads through these sums fail: the file is written anew, or gone.
  void Discard() { discarded_.store(true, std::memory_order_release); }
  bool discarded() const { return discarded_.load(std::memory_order_acquire); }

 private:
  // This is what is known of a chunk: the sum of its first `bytes`, none if they are 0.
  struct Known {
    uint32_t bytes = 0;
    uint32_t crc32c = 0;
  };

  Known Get(size_t chunk) const;
  // Returns false if something else is known by now.
  bool Replace(size_t chunk, Known known, Known next);
  absl::Status ReadChunk(const File& file, size_t chunk, size_t skip, absl::Span<char> bytes);

  std::vector<std::atomic<uint64_t>> chunks_;  // Each is a Known.
  const int64_t size_bytes_;
  std::atomic<bool> discarded_ = false;
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_CHUNK_SUMS_H_
