#include "server/store/chunk_sums.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/wire/crc32c.h"

namespace salient {
namespace {

// A read that went wrong is tried once more, so that it is the disk's bytes that are blamed.
constexpr int kReads = 2;

size_t ChunksOf(int64_t size_bytes) {
  return static_cast<size_t>((size_bytes + ChunkSums::kChunkBytes - 1) / ChunkSums::kChunkBytes);
}

}  // namespace

ChunkSums::ChunkSums(int64_t size_bytes) : chunks_(ChunksOf(size_bytes)), size_bytes_(size_bytes) {}

ChunkSums::ChunkSums(const ChunkSums& other, int64_t size_bytes) : ChunkSums(other.size_bytes_) {
  const auto whole = static_cast<size_t>(size_bytes / kChunkBytes);
  for (size_t chunk = 0; chunk < std::min(whole, chunks_.size()); ++chunk) {
    chunks_[chunk].store(other.chunks_[chunk].load(std::memory_order_acquire),
                         std::memory_order_relaxed);
  }
}

ChunkSums::Known ChunkSums::Get(size_t chunk) const {
  const uint64_t packed = chunks_[chunk].load(std::memory_order_acquire);
  return {static_cast<uint32_t>(packed >> 32), static_cast<uint32_t>(packed)};
}

bool ChunkSums::Replace(size_t chunk, Known known, Known next) {
  uint64_t expected = uint64_t{known.bytes} << 32 | known.crc32c;
  return chunks_[chunk].compare_exchange_strong(expected, uint64_t{next.bytes} << 32 | next.crc32c,
                                                std::memory_order_acq_rel);
}

void ChunkSums::Append(int64_t offset_bytes, absl::string_view data) {
  while (!data.empty()) {
    const auto chunk = static_cast<size_t>(offset_bytes / kChunkBytes);
    const int64_t before = offset_bytes % kChunkBytes;
    const absl::string_view piece = data.substr(0, static_cast<size_t>(kChunkBytes - before));
    const Known known = Get(chunk);
    if (known.bytes == before) {
      Replace(chunk, known,
              {known.bytes + static_cast<uint32_t>(piece.size()), Crc32c(piece, known.crc32c)});
    }
    offset_bytes += static_cast<int64_t>(piece.size());
    data.remove_prefix(piece.size());
  }
}

absl::Status ChunkSums::ReadChunk(const File& file, size_t chunk, size_t skip,
                                  absl::Span<char> bytes) {
  const int64_t begin = static_cast<int64_t>(chunk) * kChunkBytes;
  std::string buffer;
  for (int reads = 0;;) {
    const Known known = Get(chunk);
    const size_t size = std::max<size_t>(known.bytes, skip + bytes.size());
    absl::Span<char> target = bytes;
    if (size != bytes.size()) {
      buffer.resize(size);
      target = absl::MakeSpan(&buffer[0], size);
    }
    absl::Status read = file.ReadAt(begin, target);
    const absl::string_view content(target.data(), target.size());
    if (read.ok() && Crc32c(content.substr(0, known.bytes)) != known.crc32c) {
      read = absl::DataLossError(absl::StrCat("its bytes ", begin, " to ", begin + known.bytes,
                                              " are not those that came"));
    }
    if (discarded()) return absl::AbortedError("it is written anew");
    if (!read.ok()) {
      if (!absl::IsDataLoss(read) || ++reads == kReads) return read;
      continue;
    }
    const Known next = {static_cast<uint32_t>(size),
                        Crc32c(content.substr(known.bytes), known.crc32c)};
    if (next.bytes != known.bytes && !Replace(chunk, known, next)) continue;
    if (target.data() != bytes.data()) std::memcpy(bytes.data(), &buffer[skip], bytes.size());
    return absl::OkStatus();
  }
}

absl::Status ChunkSums::Read(const File& file, int64_t offset_bytes, absl::Span<char> bytes) {
  while (!bytes.empty()) {
    const auto chunk = static_cast<size_t>(offset_bytes / kChunkBytes);
    const auto skip = static_cast<size_t>(offset_bytes % kChunkBytes);
    const size_t size = std::min(bytes.size(), static_cast<size_t>(kChunkBytes) - skip);
    absl::Status status = ReadChunk(file, chunk, skip, bytes.subspan(0, size));
    if (!status.ok()) return status;
    offset_bytes += static_cast<int64_t>(size);
    bytes.remove_prefix(size);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ChunkSums::AgreesWith(Reader read) const {
  std::string buffer;
  for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    const Known known = Get(chunk);
    if (known.bytes == 0) continue;
    buffer.resize(known.bytes);
    absl::Status status =
        read(static_cast<int64_t>(chunk) * kChunkBytes, absl::MakeSpan(&buffer[0], buffer.size()));
    if (!status.ok()) return status;
    if (Crc32c(buffer) != known.crc32c) return false;
  }
  return true;
}

}  // namespace salient
