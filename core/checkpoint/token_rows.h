// Rows of token ids from a safetensors file.
#ifndef SALIENT_CORE_CHECKPOINT_TOKEN_ROWS_H_
#define SALIENT_CORE_CHECKPOINT_TOKEN_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient {

// `file` holds input_ids, I32 or I64 [rows, tokens], and optionally lengths, I32 or I64 [rows]: how
// many tokens of a row count; the rest is padding and left out. Takes the first `max_rows` rows,
// all for 0. Other tensors are ignored.
//
// Errors: INVALID_ARGUMENT naming `source`, tensor, shape, dtype or value and what was expected: no
// input_ids, no row, a length outside 1 to tokens, a negative id, more than 2^31 tokens in all.
absl::StatusOr<std::vector<std::vector<int64_t>>> ReadTokenRows(absl::string_view source,
                                                                absl::Span<const std::byte> file,
                                                                int64_t max_rows);

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_TOKEN_ROWS_H_
