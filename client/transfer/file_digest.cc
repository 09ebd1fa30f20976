#include "client/transfer/file_digest.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/file/durable_write.h"

namespace salient::client {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

EVP_MD_CTX* AsContext(void* context) { return static_cast<EVP_MD_CTX*>(context); }

// SHA-256 of memory we own fails only without memory or with a broken OpenSSL.
void Require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

void RunningDigest::Free::operator()(void* context) const { EVP_MD_CTX_free(AsContext(context)); }

RunningDigest::RunningDigest() : context_(EVP_MD_CTX_new()) {
  Require(context_ != nullptr &&
          EVP_DigestInit_ex(AsContext(context_.get()), EVP_sha256(), nullptr) == 1);
}

void RunningDigest::Add(absl::string_view bytes) {
  Require(EVP_DigestUpdate(AsContext(context_.get()), bytes.data(), bytes.size()) == 1);
  size_bytes_ += static_cast<int64_t>(bytes.size());
}

v1::Digest RunningDigest::Finish() {
  unsigned char sha256[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  Require(EVP_DigestFinal_ex(AsContext(context_.get()), sha256, &size) == 1);
  v1::Digest digest;
  digest.set_sha256(
      absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(sha256), size)));
  digest.set_size_bytes(size_bytes_);
  return digest;
}

v1::Digest DigestOfBytes(absl::string_view bytes) {
  RunningDigest digest;
  digest.Add(bytes);
  return digest.Finish();
}

absl::StatusOr<v1::Digest> DigestOfFile(const std::string& path,
                                        absl::FunctionRef<bool(int64_t bytes)> read) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, path, "open");
  absl::Cleanup closer = [fd] { close(fd); };
  RunningDigest digest;
  std::string piece(kPieceBytes, '\0');
  for (;;) {
    const ssize_t size = ::read(fd, piece.data(), piece.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      return absl::InternalError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
    }
    if (size == 0) return digest.Finish();
    digest.Add(absl::string_view(piece.data(), static_cast<size_t>(size)));
    if (!read(size)) return absl::CancelledError(absl::StrCat(path, ": was not read to its end"));
  }
}

std::string DigestText(const v1::Digest& digest) {
  return absl::StrCat(digest.sha256(), "/", digest.size_bytes());
}

}  // namespace salient::client
