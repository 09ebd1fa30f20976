#include "core/model/blocks/products.h"

#include <algorithm>

#include "core/kernels/forward_kernels.h"
#include "core/model/projection.h"
#include "core/model/rounded_inputs.h"
#include "core/parallel/tiles.h"

namespace salient {

absl::Status ForEachRow(int64_t rows, absl::FunctionRef<void(int64_t)> row, Executor& executor) {
  const RowTiles tiles(rows, kTokenTile);
  return executor.ForEach(tiles.size(), [&](int64_t tile) {
    const int64_t first = tiles.First(tile);
    for (int64_t t = first; t < first + tiles.Count(tile); ++t) row(t);
    return absl::OkStatus();
  });
}

absl::Status ForEachPiece(
    int64_t slices, int64_t padded_tokens, ComputeDType compute,
    absl::FunctionRef<absl::Status(int64_t slice, int64_t first_token, int64_t tokens)> piece,
    Executor& executor) {
  const RowTiles tiles(padded_tokens, TokensAtATime(compute));
  return executor.ForEach(slices * tiles.size(), [&](int64_t i) {
    const int64_t tile = i % tiles.size();
    return piece(i / tiles.size(), tiles.First(tile), tiles.Count(tile));
  });
}

absl::Status AddProduct(const PreparedBlock& block, size_t index, Activations input, Matrix& sum,
                        Executor& executor) {
  const PreparedLinear& linear = block.linear(index);
  if (absl::Status status = RoundActivations(linear.input(), input, executor); !status.ok()) {
    return status;
  }
  const auto piece = [&](int64_t slice, int64_t first_token, int64_t tokens) {
    const int64_t count = linear.Slices().Count(slice);
    Matrix change = Matrix::Unset(tokens, count);
    absl::Status status = linear.Multiply(input, first_token, tokens, slice, change.data());
    if (!status.ok()) return status;
    const int64_t used = std::min(tokens, sum.rows() - first_token);
    for (int64_t t = 0; t < used; ++t) {
      AddTo(change.Row(t), count, sum.Row(first_token + t) + linear.Slices().First(slice));
    }
    return status;
  };
  return ForEachPiece(linear.Slices().size(), input.padded_tokens(), block.compute(), piece,
                      executor);
}

}  // namespace salient
