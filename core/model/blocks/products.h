// Cuts the work of a row of tokens into tasks, and multiplies by a Linear.
#ifndef SALIENT_CORE_MODEL_BLOCKS_PRODUCTS_H_
#define SALIENT_CORE_MODEL_BLOCKS_PRODUCTS_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/model/activations.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Calls row(t) for every t of [0, rows), a tile of them in one task. Its errors are those of the
// executor, and so are those of the others.
absl::Status ForEachRow(int64_t rows, absl::FunctionRef<void(int64_t)> row, Executor& executor);

// Calls piece(slice, first_token, tokens) for all slices of outputs and all tiles of tokens. Those
// of a slice follow each other: it stays in the cache that the cores share.
absl::Status ForEachPiece(
    int64_t slices, int64_t padded_tokens, ComputeDType compute,
    absl::FunctionRef<absl::Status(int64_t slice, int64_t first_token, int64_t tokens)> piece,
    Executor& executor);

// Computes sum += linear(input) for the only Linear that reads `input`, which is rounded first if
// the Linear says so. `sum` is [tokens, out_features].
absl::Status AddProduct(const PreparedBlock& block, size_t linear, Activations input, Matrix& sum,
                        Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_PRODUCTS_H_
