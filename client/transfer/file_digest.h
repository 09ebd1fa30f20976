// Computes the name of a blob on this side of the wire.
#ifndef SALIENT_CLIENT_TRANSFER_FILE_DIGEST_H_
#define SALIENT_CLIENT_TRANSFER_FILE_DIGEST_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "salient/v1/blob_service.pb.h"

namespace salient::client {

// SHA-256 (FIPS 180-4) and size of bytes as they come. It is move-only, not thread-safe.
class RunningDigest {
 public:
  RunningDigest();

  void Add(absl::string_view bytes);
  // Returns the digest of all that came so far. Nothing may come after.
  v1::Digest Finish();

 private:
  struct Free {
    void operator()(void* context) const;  // The context is an EVP_MD_CTX.
  };
  std::unique_ptr<void, Free> context_;
  int64_t size_bytes_ = 0;
};

v1::Digest DigestOfBytes(absl::string_view bytes);

// Returns the digest of the file at `path`; `read` is told of every piece and stops by false.
// Returns NOT_FOUND if it cannot be opened, INTERNAL if it cannot be read, CANCELLED if stopped;
// all name the path.
absl::StatusOr<v1::Digest> DigestOfFile(const std::string& path,
                                        absl::FunctionRef<bool(int64_t bytes)> read);

// Writes a digest as a key: "<64 digits>/<size>".
std::string DigestText(const v1::Digest& digest);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_FILE_DIGEST_H_
