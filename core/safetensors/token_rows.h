// Rows of token ids from a safetensors file.
#ifndef SALIENT_CORE_SAFETENSORS_TOKEN_ROWS_H_
#define SALIENT_CORE_SAFETENSORS_TOKEN_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/safetensors/safetensors.h"

namespace salient {

inline constexpr absl::string_view kTokenIds = "input_ids";

// The use says whether rows are only run through a model, or scored as well.
enum class TokenUse { kRun, kScore };

// Reads the first `max_rows` rows, all for 0. A file holds tensors of integers of any width:
//
//   input_ids       [rows, tokens]
//   lengths         [rows], optional: how many tokens of a row count; the rest is padding
//   attention_mask  [rows, tokens], optional, 1 for a token and 0 for padding, as tokenizers write
//                   it: padding stands before the tokens, after them, or both
//
// Padding is left out, whatever it holds, and the first token of every row is at position 0, where
// attention_mask has it, too. What else tokenizers write is left out where it changes nothing:
// position_ids that count up, token_type_ids of 0, labels that are the tokens (any labels if
// tokens are only run), and special_tokens_mask.
//
// Errors: INVALID_ARGUMENT naming `source`, tensor, shape, dtype or value and what was expected: no
// input_ids, no row, a length outside 1 to tokens, a mask with a hole or without a token, lengths
// and a mask that differ, a negative id, more than 2^31 tokens in all, any other tensor.
absl::StatusOr<std::vector<std::vector<int64_t>>> ReadTokenRows(absl::string_view source,
                                                                absl::Span<const std::byte> file,
                                                                int64_t max_rows, TokenUse use);

// Looks at names, dtypes and shapes alone. Its errors are some of those of ReadTokenRows.
absl::Status CheckTokenTensors(const SafetensorsHeader& header);

}  // namespace salient

#endif  // SALIENT_CORE_SAFETENSORS_TOKEN_ROWS_H_
