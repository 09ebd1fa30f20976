// Files of token ids, as a job wants them.
#ifndef SALIENT_CLIENT_JOBS_TOKEN_FILE_H_
#define SALIENT_CLIENT_JOBS_TOKEN_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/transfer/local_blob.h"
#include "salient/v1/job_source.pb.h"

namespace salient::client {

// Opens a safetensors file of tokens as a blob. Errors are those of SafetensorsFile::Open and
// CheckTokenTensors, with how to make such a file. The server judges whether the ids suit a model.
absl::StatusOr<LocalBlob> TokenFile(const std::string& path);

// These flags say which rows of a token file a task uses.
struct TokenRowFlags {
  int64_t rows = 0;         // The first so many are taken; 0 stands for all.
  bool allow_long = false;  // Rows may be longer than the model's context.
};

// Returns what a task is told of a token file or of a stand-in.
v1::TokenCalibration ToTokens(const LocalBlob& tokens, const TokenRowFlags& rows);

// Makes a stand-in of the same shape for an estimate, which depends on nothing else: input_ids I32
// [rows, tokens] of zeros. Both are at least 1, together at most 2^28.
absl::StatusOr<LocalBlob> BlankTokens(int64_t rows, int64_t tokens);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_TOKEN_FILE_H_
