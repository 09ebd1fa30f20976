#include "core/model/projection.h"

#include <vector>

#include "core/linalg/gemm.h"
#include "core/linalg/tiles.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

// Wide enough for an efficient product, narrow enough that a slice of a wide weight is a few
// megabytes for each worker.
constexpr int64_t kOutTile = 128;

void RoundToBF16(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = BF16ToF32(F32ToBF16(values[i]));
}

}  // namespace

absl::StatusOr<Matrix> Project(const Matrix& input, int64_t out_features, RowReader rows,
                               absl::Span<const float> bias, ComputeDType compute,
                               Executor& executor) {
  const int64_t tokens = input.rows();
  const int64_t in_features = input.cols();
  Matrix rounded;
  const float* x = input.data();
  if (compute == ComputeDType::kBF16) {
    rounded = Matrix(tokens, in_features);
    std::memcpy(rounded.data(), x, static_cast<size_t>(tokens * in_features) * sizeof(float));
    RoundToBF16(rounded.data(), tokens * in_features);
    x = rounded.data();
  }
  Matrix output(tokens, out_features);
  const RowTiles tiles(out_features, kOutTile);
  const absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const int64_t first = tiles.First(tile);
    const int64_t count = tiles.Count(tile);
    Matrix weight(count, in_features);
    if (absl::Status read = rows(first, count, weight.data()); !read.ok()) return read;
    // The product of two bfloat16 is exact in f32, so this is their arithmetic; a native bf16
    // kernel differs in the order of its sums only.
    if (compute == ComputeDType::kBF16) RoundToBF16(weight.data(), count * in_features);
    if (!bias.empty()) {
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t o = first; o < first + count; ++o) {
          output.Row(t)[o] = bias[static_cast<size_t>(o)];
        }
      }
    }
    return Gemm(Op::kPlain, Op::kTransposed, tokens, count, in_features, x, in_features,
                weight.data(), in_features, bias.empty() ? 0.0f : 1.0f, output.data() + first,
                out_features);
  });
  if (!status.ok()) return status;
  return output;
}

absl::StatusOr<Matrix> Project(const Matrix& input, const StoredLinear& linear,
                               ComputeDType compute, Executor& executor) {
  const WeightView view = linear.View();
  const auto read = [&view](int64_t first, int64_t count, float* out) {
    view.ReadRows(first, count, out);
    return absl::OkStatus();
  };
  return Project(input, linear.out_features, read, linear.bias.values, compute, executor);
}

}  // namespace salient
