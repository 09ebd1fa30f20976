#include "server/jobs/token_blob.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"
#include "server/jobs/job_sources.h"
#include "server/store/digest.h"

namespace salient {
namespace {

absl::Status CheckRowTokens(const TokenBlob& source, size_t row, size_t tokens,
                            const TokenNeeds& needs) {
  const size_t least = needs.use == TokenUse::kScore ? 2 : 1;
  const std::string found = absl::StrCat(source.name, ": row ", row, " has ", tokens, " tokens");
  if (tokens < least) {
    return InvalidCall(Reason::kBadTokens, absl::StrCat(found, "; expected at least ", least));
  }
  if (source.allow_long_rows || !needs.row_tokens.has_value() ||
      static_cast<int64_t>(tokens) <= *needs.row_tokens) {
    return absl::OkStatus();
  }
  return InvalidCall(
      Reason::kBadTokens,
      absl::StrCat(found, "; expected at most ", *needs.row_tokens,
                   ", the model's max_position_embeddings: it never saw later positions "
                   "(allow_long_rows takes them all the same)"));
}

absl::Status CheckRows(const TokenBlob& source, absl::Span<const std::vector<int64_t>> rows,
                       const TokenNeeds& needs) {
  for (size_t row = 0; row < rows.size(); ++row) {
    absl::Status status = CheckRowTokens(source, row, rows[row].size(), needs);
    if (!status.ok()) return status;
    for (size_t position = 0; position < rows[row].size(); ++position) {
      if (rows[row][position] < needs.vocab_size) continue;
      return InvalidCall(
          Reason::kBadTokens,
          absl::StrCat(source.name, ": row ", row, ", position ", position, ": token id is ",
                       rows[row][position], "; expected less than ", needs.vocab_size,
                       ", the vocabulary's size"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTokenBlob(const TokenBlob& source) {
  if (source.max_rows < 0) {
    return InvalidCall(Reason::kBadTokens, absl::StrCat(source.name, ": max_rows is ",
                                                        source.max_rows, "; expected at least 0"));
  }
  if (source.tokens.size_bytes <= kMaxTokenBlobBytes) return absl::OkStatus();
  return InvalidCall(
      Reason::kBadTokens,
      absl::StrCat(source.name, ": blob ", ToString(source.tokens), " has ",
                   source.tokens.size_bytes, " bytes; expected at most ", kMaxTokenBlobBytes));
}

absl::StatusOr<std::vector<std::vector<int64_t>>> ReadTokens(const TokenBlob& source,
                                                             const TokenNeeds& needs,
                                                             BlobStore& store) {
  if (absl::Status status = CheckTokenBlob(source); !status.ok()) return status;
  const absl::StatusOr<std::string> file = ReadSource(source.name, source.tokens, store);
  if (!file.ok()) return file.status();
  auto rows = ReadTokenRows(
      source.name,
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(file->data()), file->size()),
      source.max_rows, needs.use);
  if (!rows.ok()) return WithReason(rows.status(), Reason::kBadTokens);
  if (absl::Status status = CheckRows(source, *rows, needs); !status.ok()) return status;
  return rows;
}

std::vector<int64_t> RowTokens(absl::Span<const std::vector<int64_t>> rows) {
  std::vector<int64_t> tokens;
  for (const std::vector<int64_t>& row : rows) tokens.push_back(static_cast<int64_t>(row.size()));
  return tokens;
}

std::vector<int64_t> GuessRowTokens(const TokenBlob& source) {
  constexpr int64_t kRow = 2048;
  const int64_t tokens = std::min(source.tokens.size_bytes, kMaxTokenBlobBytes) / 4;
  int64_t rows = std::max<int64_t>(1, tokens / kRow);
  if (source.max_rows > 0) rows = std::min(rows, source.max_rows);
  return std::vector<int64_t>(static_cast<size_t>(rows),
                              std::min(kRow, std::max<int64_t>(1, tokens)));
}

}  // namespace salient
