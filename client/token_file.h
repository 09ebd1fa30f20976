// Files of token ids, as a job wants them.
#ifndef SALIENT_CLIENT_TOKEN_FILE_H_
#define SALIENT_CLIENT_TOKEN_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/local_blob.h"

namespace salient::client {

// A safetensors file with input_ids, as a blob. NOT_FOUND, INVALID_ARGUMENT, naming the file.
// Whether its ids suit a model is the server's to say.
absl::StatusOr<LocalBlob> TokenFile(const std::string& path);

// A stand-in of the same shape for an estimate, which depends on nothing else: input_ids I32
// [rows, tokens] of zeros. Both at least 1, together at most 2^28.
absl::StatusOr<LocalBlob> BlankTokens(int64_t rows, int64_t tokens);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TOKEN_FILE_H_
