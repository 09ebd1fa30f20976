// Names a blob, and computes the name.
#ifndef SALIENT_SERVER_STORE_DIGEST_H_
#define SALIENT_SERVER_STORE_DIGEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/wire/sha256.h"

namespace salient {

// A SHA-256 has so many hexadecimal digits.
inline constexpr size_t kHexDigits = 64;

// Holds SHA-256 (FIPS 180-4) and size of the content. The size is part of the identity.
struct Digest {
  std::array<uint8_t, 32> sha256 = {};
  int64_t size_bytes = 0;

  bool operator==(const Digest&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, const Digest& digest) {
    return H::combine(std::move(state), digest.sha256, digest.size_bytes);
  }
};

// Parses `sha256`, 64 lower-case hexadecimal digits, and size_bytes >= 0. INVALID_ARGUMENT
// names the field ("<field>.sha256"), its value and what was expected.
absl::StatusOr<Digest> ParseDigest(absl::string_view field, absl::string_view sha256,
                                   int64_t size_bytes);

// Returns the 64 digits.
std::string HexSha256(const Digest& digest);

// Returns "<64 digits>/<size>", as messages say it.
std::string ToString(const Digest& digest);

// Returns the digest of all that `sha256` was given so far.
Digest DigestOf(const Sha256& sha256);

// Returns the digest of a whole.
Digest DigestOf(absl::string_view content);

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_DIGEST_H_
