// A few tokens of one calibration row, and their columns laid out for products.
#ifndef SALIENT_CORE_STATISTICS_TOKEN_TILE_H_
#define SALIENT_CORE_STATISTICS_TOKEN_TILE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "core/tensor/dtype.h"

namespace salient {

// BF16 is multiplied as it is: products of bfloat16 and the sums of a tile are those of f32.
// F16 and F32 are multiplied in f32, in tiles of as many bytes.
//
// Products of BF16 are padded with zero tokens to a multiple of kTilePadding: a kernel is made
// for each shape, so shapes must be few.
struct TokenTile {
  // A whole tile takes so many once it is laid out.
  static constexpr int64_t kBytesPerColumn = 1024;
  static constexpr int64_t kTilePadding = 64;

  DType dtype = DType::kF32;               // It is F32, F16 or BF16.
  const std::byte* activations = nullptr;  // They are [tokens, in_features], and borrowed.
  int64_t tokens = 0;
  int64_t in_features = 0;

  // Returns how many tokens of this dtype make a whole tile.
  static int64_t Tokens(DType dtype) { return kBytesPerColumn / (dtype == DType::kBF16 ? 2 : 4); }

  bool IsBf16() const { return dtype == DType::kBF16; }
  // The inner dimension of products.
  int64_t Depth() const {
    return IsBf16() ? (tokens + kTilePadding - 1) / kTilePadding * kTilePadding : tokens;
  }
};

// Columns of a tile: BF16 [columns, depth], tokens side by side, or f32 [depth, width]. Borrows.
struct TokenPanel {
  const TokenTile* tile = nullptr;
  const void* data = nullptr;
  int64_t columns = 0;
  int64_t width = 0;
};

// Lays columns [first_column, first_column + columns) of `tile` out in `out`, which holds
// width * kBytesPerColumn bytes at a 64-byte boundary. BF16 activations must be aligned.
TokenPanel LayPanel(const TokenTile& tile, int64_t first_column, int64_t columns, int64_t width,
                    void* out);

// Adds a panel to the sums of its columns. A max_abs is not finite if a value was not.
void AddSums(const TokenPanel& panel, double* sum, double* sum_abs, float* max_abs);

// Returns whether `count` values are neither NaN nor infinite; any alignment.
bool AllFinite(DType dtype, const std::byte* data, int64_t count);

// C = A^T B + beta C of two panels of one tile, C [a.columns, b.columns] of row stride ldc.
absl::Status MultiplyPanels(const TokenPanel& a, const TokenPanel& b, float beta, float* c,
                            int64_t ldc);

// Does the same for a == b; leaves most of what is below the diagonal undefined.
absl::Status MultiplyPanelByItself(const TokenPanel& panel, float beta, float* c, int64_t ldc);

// C = R A + beta C for signs R [rows, depth], BF16 or f32 as the panel is.
absl::Status MultiplySigns(const void* signs, int64_t rows, const TokenPanel& panel, float beta,
                           float* c, int64_t ldc);

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_TOKEN_TILE_H_
