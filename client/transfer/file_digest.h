// Computes the name of a blob on this side of the wire.
#ifndef SALIENT_CLIENT_TRANSFER_FILE_DIGEST_H_
#define SALIENT_CLIENT_TRANSFER_FILE_DIGEST_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/wire/sha256.h"
#include "salient/v1/blob_service.pb.h"

namespace salient::client {

// Returns the digest of all that `sha256` was given so far.
v1::Digest ToMessage(const Sha256& sha256);

v1::Digest DigestOfBytes(absl::string_view bytes);

// Returns the digest of the file at `path`; `read` is told of every piece and stops by false.
// Errors are those of RegularFile::Open, INTERNAL if it cannot be read, CANCELLED if stopped; all
// name the path.
absl::StatusOr<v1::Digest> DigestOfFile(const std::string& path,
                                        absl::FunctionRef<bool(int64_t bytes)> read);

// Writes a digest as a key: "<64 digits>/<size>".
std::string DigestText(const v1::Digest& digest);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_FILE_DIGEST_H_
