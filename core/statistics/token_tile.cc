#include "core/statistics/token_tile.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/sum_kernels.h"
#include "core/kernels/token_kernels.h"
#include "core/kernels/transpose_kernels.h"
#include "core/linalg/gemm.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

bool IsAligned(const std::byte* data, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

void Widen(DType dtype, const std::byte* data, int64_t count, float* out) {
  if (dtype == DType::kF16 && IsAligned(data, alignof(uint16_t))) {
    WidenF16(reinterpret_cast<const uint16_t*>(data), count, out);
  } else {
    WidenToF32(dtype, data, count, out);
  }
}

const uint16_t* Bf16(const TokenPanel& panel) { return static_cast<const uint16_t*>(panel.data); }
const float* F32(const TokenPanel& panel) { return static_cast<const float*>(panel.data); }

// Rows [first_row, first_row + rows) of A^T times columns from `first` on of B.
absl::Status MultiplyPart(const TokenPanel& a, int64_t first_row, int64_t rows, const TokenPanel& b,
                          int64_t first, float beta, float* c, int64_t ldc) {
  const int64_t depth = a.tile->Depth();
  float* out = c + first_row * ldc + first;
  if (a.tile->IsBf16()) {
    return GemmBf16(rows, b.columns - first, depth, Bf16(a) + first_row * depth, depth,
                    Bf16(b) + first * depth, depth, beta, out, ldc);
  }
  return Gemm(Op::kTransposed, Op::kPlain, rows, b.columns - first, depth, F32(a) + first_row,
              a.width, F32(b) + first, b.width, beta, out, ldc);
}

}  // namespace

TokenPanel LayPanel(const TokenTile& tile, int64_t first_column, int64_t columns, int64_t width,
                    void* out) {
  const std::byte* first = tile.activations + first_column * SizeOf(tile.dtype);
  if (tile.IsBf16()) {
    auto* panel = static_cast<uint16_t*>(out);
    const int64_t depth = tile.Depth();
    Transpose16(reinterpret_cast<const uint16_t*>(first), tile.tokens, columns, tile.in_features,
                panel, depth);
    for (int64_t c = 0; c < columns && tile.tokens < depth; ++c) {
      // Zeros behind the tokens change no sum, and leave products few shapes.
      std::fill(panel + c * depth + tile.tokens, panel + (c + 1) * depth, uint16_t{0});
    }
  } else {
    auto* panel = static_cast<float*>(out);
    const int64_t row_bytes = tile.in_features * SizeOf(tile.dtype);
    for (int64_t t = 0; t < tile.tokens; ++t) {
      Widen(tile.dtype, first + t * row_bytes, columns, panel + t * width);
    }
  }
  return {&tile, out, columns, width};
}

void AddSums(const TokenPanel& panel, double* sum, double* sum_abs, float* max_abs) {
  if (!panel.tile->IsBf16()) {
    AddColumnSums(F32(panel), panel.tile->tokens, panel.columns, panel.width, sum, sum_abs,
                  max_abs);
    return;
  }
  const int64_t depth = panel.tile->Depth();
  for (int64_t c = 0; c < panel.columns; ++c) {
    const ChannelSums sums = SumBf16(Bf16(panel) + c * depth, depth);
    sum[c] += sums.sum;
    sum_abs[c] += sums.sum_abs;
    // So that a NaN stays.
    if (!(sums.max_abs <= max_abs[c])) max_abs[c] = sums.max_abs;
  }
}

bool AllFinite(DType dtype, const std::byte* data, int64_t count) {
  if (IsAligned(data, static_cast<size_t>(SizeOf(dtype)))) {
    if (dtype == DType::kF32) return AllFinite32(reinterpret_cast<const float*>(data), count);
    // An exponent of all ones is a NaN or an infinity.
    const uint16_t exponent = dtype == DType::kBF16 ? 0x7F80 : 0x7C00;
    return AllFinite16(reinterpret_cast<const uint16_t*>(data), count, exponent);
  }
  for (int64_t i = 0; i < count; ++i) {
    float value = 0;
    WidenToF32(dtype, data + i * SizeOf(dtype), 1, &value);
    if (!std::isfinite(value)) return false;
  }
  return true;
}

absl::Status MultiplyPanels(const TokenPanel& a, const TokenPanel& b, float beta, float* c,
                            int64_t ldc) {
  return MultiplyPart(a, 0, a.columns, b, 0, beta, c, ldc);
}

// In strips, each from the diagonal on: half of the operations of narrow strips, but the whole
// speed of wide ones.
absl::Status MultiplyPanelByItself(const TokenPanel& panel, float beta, float* c, int64_t ldc) {
  constexpr int64_t kStrip = 128;
  for (int64_t row = 0; row < panel.columns; row += kStrip) {
    const int64_t rows = std::min(kStrip, panel.columns - row);
    absl::Status status = MultiplyPart(panel, row, rows, panel, row, beta, c, ldc);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status MultiplySigns(const void* signs, int64_t rows, const TokenPanel& panel, float beta,
                           float* c, int64_t ldc) {
  const int64_t depth = panel.tile->Depth();
  if (panel.tile->IsBf16()) {
    return GemmBf16(rows, panel.columns, depth, static_cast<const uint16_t*>(signs), depth,
                    Bf16(panel), depth, beta, c, ldc);
  }
  return Gemm(Op::kPlain, Op::kPlain, rows, panel.columns, depth, static_cast<const float*>(signs),
              depth, F32(panel), panel.width, beta, c, ldc);
}

}  // namespace salient
