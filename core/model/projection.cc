#include "core/model/projection.h"

#include <algorithm>

#include "core/kernels/forward_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/tensor/dtype.h"

namespace salient {
const float* WidenedRows(const WeightView& weight, int64_t first, int64_t count, Matrix& wide) {
  const std::byte* rows = weight.data + first * weight.in_features * SizeOf(weight.dtype);
  if (weight.dtype == DType::kF32) return reinterpret_cast<const float*>(rows);
  wide = Matrix::Unset(count, weight.in_features);
  const auto* bits = reinterpret_cast<const uint16_t*>(rows);
  const int64_t size = count * weight.in_features;
  if (weight.dtype == DType::kBF16) {
    WidenBf16(bits, size, wide.data());
  } else {
    WidenF16(bits, size, wide.data());
  }
  return wide.data();
}

int64_t SliceOutputs(ComputeDType compute) { return compute == ComputeDType::kBF16 ? 256 : 128; }

int64_t TokensAtATime(ComputeDType compute) { return compute == ComputeDType::kBF16 ? 256 : 512; }

PreparedLinear::PreparedLinear(const StoredLinear& linear, int64_t first_row, int64_t rows,
                               ComputeDType compute, int64_t unit)
    : linear_(&linear),
      first_row_(first_row),
      rows_(rows),
      compute_(compute),
      slice_(std::max<int64_t>(1, SliceOutputs(compute) / unit) * unit) {
  if (compute == ComputeDType::kBF16) factors_.resize(static_cast<size_t>(Slices().size()));
}

absl::Status PreparedLinear::Prepare(int64_t slice) {
  if (compute_ == ComputeDType::kF32) return absl::OkStatus();
  const int64_t first = first_row_ + Slices().First(slice);
  const int64_t count = Slices().Count(slice);
  const int64_t in_features = linear_->in_features;
  std::vector<uint16_t> rounded;
  const auto* bits =
      reinterpret_cast<const uint16_t*>(linear_->weight.data()) + first * in_features;
  if (linear_->dtype != DType::kBF16) {
    Matrix wide;
    const float* rows = WidenedRows(linear_->View(), first, count, wide);
    rounded.resize(static_cast<size_t>(count * in_features));
    RoundToBf16(rows, count * in_features, rounded.data());
    bits = rounded.data();
  }
  auto factor = Bf16Factor::Create(bits, count, in_features, in_features);
  if (!factor.ok()) return factor.status();
  factors_[static_cast<size_t>(slice)] = *std::move(factor);
  return absl::OkStatus();
}

absl::Status PreparedLinear::Multiply(const Activations& input, int64_t first_token, int64_t tokens,
                                      int64_t slice, float* out) const {
  const int64_t first = first_row_ + Slices().First(slice);
  const int64_t count = Slices().Count(slice);
  const int64_t in_features = linear_->in_features;
  absl::Status status;
  if (compute_ == ComputeDType::kBF16) {
    status = factors_[static_cast<size_t>(slice)].Multiply(tokens, input.BF16(first_token),
                                                           in_features, 0.0f, out, count);
  } else {
    Matrix wide;
    status = Gemm(Op::kPlain, Op::kTransposed, tokens, count, in_features, input.F32(first_token),
                  in_features, WidenedRows(linear_->View(), first, count, wide), in_features, 0.0f,
                  out, count);
  }
  if (!status.ok() || linear_->bias.values.empty()) return status;
  for (int64_t t = 0; t < tokens; ++t) {
    AddTo(linear_->bias.values.data() + first, count, out + t * count);
  }
  return absl::OkStatus();
}

int64_t PreparedLinear::PreparedBytes(ComputeDType compute, int64_t out_features,
                                      int64_t in_features) {
  if (compute == ComputeDType::kF32) return 0;
  return Bf16Factor::MemoryBytes(out_features, in_features);
}

int64_t PreparedLinear::MultiplyBytes(ComputeDType compute, int64_t tokens, int64_t in_features) {
  constexpr auto kF32Bytes = static_cast<int64_t>(sizeof(float));
  if (compute == ComputeDType::kF32) return SliceOutputs(compute) * in_features * kF32Bytes;
  return MultipliesBf16() ? 0 : std::min(tokens, TokensAtATime(compute)) * in_features * kF32Bytes;
}

absl::StatusOr<Matrix> Project(const Matrix& input, const WeightView& weight, Executor& executor) {
  const int64_t tokens = input.rows();
  const int64_t in_features = weight.in_features;
  Matrix output = Matrix::Unset(tokens, weight.out_features);
  const RowTiles tiles(weight.out_features, SliceOutputs(ComputeDType::kF32));
  const absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    const int64_t first = tiles.First(tile);
    const int64_t count = tiles.Count(tile);
    Matrix wide;
    return Gemm(Op::kPlain, Op::kTransposed, tokens, count, in_features, input.data(), in_features,
                WidenedRows(weight, first, count, wide), in_features, 0.0f, output.data() + first,
                weight.out_features);
  });
  if (!status.ok()) return status;
  return output;
}

}  // namespace salient
