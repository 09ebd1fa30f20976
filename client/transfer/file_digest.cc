#include "client/transfer/file_digest.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/file/regular_file.h"

namespace salient::client {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

}  // namespace

v1::Digest ToMessage(const Sha256& sha256) {
  const std::array<uint8_t, 32> bytes = sha256.Snapshot();
  v1::Digest digest;
  digest.set_sha256(absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())));
  digest.set_size_bytes(sha256.size_bytes());
  return digest;
}

v1::Digest DigestOfBytes(absl::string_view bytes) {
  Sha256 sha256;
  sha256.Update(bytes);
  return ToMessage(sha256);
}

absl::StatusOr<v1::Digest> DigestOfFile(const std::string& path,
                                        absl::FunctionRef<bool(int64_t bytes)> read) {
  const absl::StatusOr<RegularFile> file = RegularFile::Open(path);
  if (!file.ok()) return file.status();
  Sha256 sha256;
  std::string piece(kPieceBytes, '\0');
  for (;;) {
    const ssize_t size = ::read(file->fd(), piece.data(), piece.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      return absl::InternalError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
    }
    if (size == 0) return ToMessage(sha256);
    sha256.Update(absl::string_view(piece.data(), static_cast<size_t>(size)));
    if (!read(size)) return absl::CancelledError(absl::StrCat(path, ": was not read to its end"));
  }
}

std::string DigestText(const v1::Digest& digest) {
  return absl::StrCat(digest.sha256(), "/", digest.size_bytes());
}

}  // namespace salient::client
