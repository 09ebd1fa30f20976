// Reads token rows from a blob.
#ifndef SALIENT_SERVER_JOBS_TOKEN_BLOB_H_
#define SALIENT_SERVER_JOBS_TOKEN_BLOB_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/config/model/model_config.h"
#include "core/safetensors/token_rows.h"
#include "server/jobs/job.h"
#include "server/store/blob_store.h"

namespace salient {

inline constexpr int64_t kMaxTokenBlobBytes = int64_t{1} << 30;
// Larger ones are judged by the job alone: submitting it would take seconds, and three times as
// much memory.
inline constexpr int64_t kMaxSoonJudgedTokenBytes = int64_t{32} << 20;

// Checks what can be said of it before it is here. Returns INVALID_ARGUMENT, BAD_TOKENS, for a blob
// above the limit or a negative max_rows.
absl::Status CheckTokenBlob(const TokenBlob& source);

// Says what rows must be like.
struct TokenNeeds {
  int64_t vocab_size = 0;             // Ids are less.
  TokenUse use = TokenUse::kRun;      // A token is scored from those before it, so a row has two.
  std::optional<int64_t> row_tokens;  // A row has at most so many, unless the source allows more.
};

inline TokenNeeds ToRun(const ModelConfig& config) {
  return {config.vocab_size, TokenUse::kRun, config.max_position_embeddings};
}
inline TokenNeeds ToScore(const ModelConfig& config) {
  return {config.vocab_size, TokenUse::kScore, config.max_position_embeddings};
}

// Reads a complete blob. Errors, INVALID_ARGUMENT, BAD_TOKENS: as CheckTokenBlob and
// ReadTokenRows, and for a row or an id that is not as needed (names row, position and id).
absl::StatusOr<std::vector<std::vector<int64_t>>> ReadTokens(const TokenBlob& source,
                                                             const TokenNeeds& needs,
                                                             BlobStore& store);

// Returns the tokens of each row: from the blob if it is here, else a guess from its size, rows of
// 2048 ids of 4 bytes.
std::vector<int64_t> RowTokens(absl::Span<const std::vector<int64_t>> rows);
std::vector<int64_t> GuessRowTokens(const TokenBlob& source);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_TOKEN_BLOB_H_
