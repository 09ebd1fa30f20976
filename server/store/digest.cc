#include "server/store/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace salient {
namespace {

constexpr size_t kShownBytes = 80;  // So much is shown of a value that is not a digest.

// Returns -1 for a character that is no digit.
int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

EVP_MD_CTX* AsContext(void* context) { return static_cast<EVP_MD_CTX*>(context); }

// SHA-256 of memory we own cannot fail, except without memory or with a broken OpenSSL.
void Require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

absl::StatusOr<Digest> ParseDigest(absl::string_view field, absl::string_view sha256,
                                   int64_t size_bytes) {
  Digest digest;
  if (sha256.size() != kHexDigits ||
      !std::all_of(sha256.begin(), sha256.end(), [](char c) { return HexValue(c) >= 0; })) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".sha256 is \"", absl::CHexEscape(sha256.substr(0, kShownBytes)),
                     sha256.size() > kShownBytes ? "...\"" : "\"", " (", sha256.size(),
                     " characters); expected 64 lower-case hexadecimal digits"));
  }
  if (size_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".size_bytes is ", size_bytes, "; expected at least 0"));
  }
  for (size_t i = 0; i < digest.sha256.size(); ++i) {
    digest.sha256[i] =
        static_cast<uint8_t>(HexValue(sha256[2 * i]) * 16 + HexValue(sha256[2 * i + 1]));
  }
  digest.size_bytes = size_bytes;
  return digest;
}

std::string HexSha256(const Digest& digest) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.sha256.data()), digest.sha256.size()));
}

std::string ToString(const Digest& digest) {
  return absl::StrCat(HexSha256(digest), "/", digest.size_bytes);
}

void Sha256::Free::operator()(void* context) const { EVP_MD_CTX_free(AsContext(context)); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  Require(context_ != nullptr &&
          EVP_DigestInit_ex(AsContext(context_.get()), EVP_sha256(), nullptr) == 1);
}

void Sha256::Update(absl::string_view data) {
  Require(EVP_DigestUpdate(AsContext(context_.get()), data.data(), data.size()) == 1);
  size_bytes_ += static_cast<int64_t>(data.size());
}

Digest Sha256::Snapshot() const {
  // Finishing spends a context, so it gets a copy of it.
  const std::unique_ptr<void, Free> copy(EVP_MD_CTX_new());
  Digest digest;
  digest.size_bytes = size_bytes_;
  unsigned int written = 0;
  Require(copy != nullptr &&
          EVP_MD_CTX_copy_ex(AsContext(copy.get()), AsContext(context_.get())) == 1 &&
          EVP_DigestFinal_ex(AsContext(copy.get()), digest.sha256.data(), &written) == 1 &&
          written == digest.sha256.size());
  return digest;
}

Digest DigestOf(absl::string_view content) {
  Sha256 sha256;
  sha256.Update(content);
  return sha256.Snapshot();
}

}  // namespace salient
