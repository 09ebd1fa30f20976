#include "server/store/digest.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// Returns -1 for a character that is no digit.
int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

absl::StatusOr<Digest> ParseDigest(absl::string_view field, absl::string_view sha256,
                                   int64_t size_bytes) {
  Digest digest;
  if (sha256.size() != kHexDigits ||
      !std::all_of(sha256.begin(), sha256.end(), [](char c) { return HexValue(c) >= 0; })) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".sha256 is ", QuoteForMessage(sha256),
                                                   "; expected 64 lower-case hexadecimal digits"));
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

Digest DigestOf(const Sha256& sha256) { return {sha256.Snapshot(), sha256.size_bytes()}; }

Digest DigestOf(absl::string_view content) {
  Sha256 sha256;
  sha256.Update(content);
  return DigestOf(sha256);
}

}  // namespace salient
