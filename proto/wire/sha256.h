// Computes SHA-256 (FIPS 180-4), the name of every blob, at both ends.
#ifndef SALIENT_PROTO_WIRE_SHA256_H_
#define SALIENT_PROTO_WIRE_SHA256_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"

namespace salient {

// Hashes content as it comes. Move-only; a moved-from one may only be destroyed or assigned to.
// Not thread-safe.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept = default;
  Sha256& operator=(Sha256&&) noexcept = default;

  void Update(absl::string_view data);

  // Returns the hash of all that came so far; more may come.
  std::array<uint8_t, 32> Snapshot() const;

  // Counts the bytes that came so far.
  int64_t size_bytes() const { return size_bytes_; }

 private:
  struct Free {
    void operator()(void* context) const;  // an EVP_MD_CTX
  };
  std::unique_ptr<void, Free> context_;
  int64_t size_bytes_ = 0;
};

}  // namespace salient

#endif  // SALIENT_PROTO_WIRE_SHA256_H_
