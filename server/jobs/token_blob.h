// Token rows from a blob.
#ifndef SALIENT_SERVER_JOBS_TOKEN_BLOB_H_
#define SALIENT_SERVER_JOBS_TOKEN_BLOB_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/model_config.h"
#include "server/jobs/job.h"
#include "server/store/blob_store.h"

namespace salient {

inline constexpr int64_t kMaxTokenBlobBytes = int64_t{1} << 30;

// What can be said of it before it is here. INVALID_ARGUMENT, BAD_TOKENS, for a blob above the
// limit or a negative max_rows.
absl::Status CheckTokenSource(const TokenSource& source);

// What rows must be like.
struct TokenNeeds {
  int64_t vocab_size = 0;  // ids are less
  int64_t row_tokens = 1;  // at least
};

// To be run through the model; to be scored: a token is predicted from those before it.
inline TokenNeeds ToRun(const ModelConfig& config) { return {config.vocab_size, 1}; }
inline TokenNeeds ToScore(const ModelConfig& config) { return {config.vocab_size, 2}; }

// Reads a complete blob. Errors, INVALID_ARGUMENT, BAD_TOKENS: as CheckTokenSource and
// ReadTokenRows, and for a row or an id that is not as needed (names row, position and id).
absl::StatusOr<std::vector<std::vector<int64_t>>> ReadTokens(const TokenSource& source,
                                                             const TokenNeeds& needs,
                                                             BlobStore& store);

// Tokens of each row. From the blob if it is here, else a guess from its size: rows of 2048 ids of
// 4 bytes.
std::vector<int64_t> RowTokens(absl::Span<const std::vector<int64_t>> rows);
std::vector<int64_t> GuessRowTokens(const TokenSource& source);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_TOKEN_BLOB_H_
