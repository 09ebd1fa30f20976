// The calibration row that is being read: its tokens, a tile at a time, and its partial sums.
#ifndef SALIENT_CORE_STATISTICS_OPEN_ROW_H_
#define SALIENT_CORE_STATISTICS_OPEN_ROW_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/linalg/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace salient {

// Tokens gather in a tile of kTileTokens; X^T X and R X of full tiles add up in f32, in tile
// order, until the row closes; the last tile is padded with zeros to a multiple of
// kTilePadding. So every product has a shape that the row's length alone decides, and the
// batches in which the row came leave no trace. When the row ends, its partial sums are
// rounded to multiples of 2^-24 and added to totals, at once or when rows before it are there.
//
// Not thread-safe; work is spread over the executor by columns, a fixed cut.
class OpenRow {
 public:
  static constexpr int64_t kTileTokens = 256;
  static constexpr int64_t kTilePadding = 64;

  // `name` appears in errors.
  OpenRow(std::string name, const StatisticsParams& params);

  // Begins with no tokens; the row before must have been closed.
  void Begin(int64_t calibration_row);

  int64_t calibration_row() const { return calibration_row_; }
  int64_t next_position() const { return next_position_; }

  // Tokens that still fit into the tile.
  int64_t Room() const { return kTileTokens - tile_tokens_; }

  // Takes the next `tokens` <= Room() vectors. INVALID_ARGUMENT for a NaN or infinity, naming
  // row, position and column.
  absl::Status Append(DType dtype, const std::byte* activations, int64_t tokens,
                      Executor& executor);

  // Copies the vector of `position`, which must be in the tile, to out [in_features].
  void CopyToken(int64_t position, float* out) const;

  // Multiplies the tile out and empties it.
  absl::Status FoldTile(Executor& executor);

  // Adds the row, all of whose tiles were folded, to `totals`: its sums, its products and its
  // tokens' count. INVALID_ARGUMENT if the squares of a column might overflow f32 (names it).
  absl::Status AddTo(Statistics& totals, Executor& executor) const;

  static int64_t MemoryBytes(const StatisticsParams& params);

 private:
  // A product of two panels; i <= j. Diagonal ones also carry the sums and the sketch of
  // their panel.
  struct PanelPair {
    int64_t i = 0;
    int64_t j = 0;
  };
  struct BadValue {
    int64_t position = -1;
    int64_t column = 0;
    float value = 0;
  };

  int64_t Columns(int64_t panel) const;
  float* Panel(int64_t panel) { return tile_.Row(panel * kTileTokens); }
  BadValue WidenPanel(int64_t panel, DType dtype, const std::byte* activations, int64_t tokens);
  void FillSigns(int64_t padded);
  absl::Status FoldPair(int64_t index, int64_t padded);
  void AddSums(int64_t panel);
  absl::Status AddPanelTo(int64_t panel, Statistics& totals) const;
  void AddPairTo(int64_t index, Statistics& totals) const;

  std::string name_;
  StatisticsParams params_;
  std::vector<PanelPair> pairs_;

  int64_t calibration_row_ = 0;
  int64_t next_position_ = 0;
  int64_t tile_tokens_ = 0;  // in the tile
  bool first_tile_ = true;   // nothing was multiplied yet

  // The tile by panels of block_width columns, so that the operands of each product lie
  // together; unused columns of the last panel stay 0.
  Matrix tile_;              // [panels * kTileTokens, block_width]
  Matrix signs_;             // [kTileTokens, sketch_rows], R transposed
  Matrix products_;          // [pairs * block_width, block_width]
  Matrix sketch_;            // [panels * sketch_rows, block_width]
  std::vector<double> sum_;  // [panels * block_width], as the next two
  std::vector<double> sum_abs_;
  std::vector<float> max_abs_;
  std::vector<double> sketch_row_sums_;  // [sketch_rows], whole numbers
  std::vector<BadValue> bad_;            // of the last batch, by panel
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_OPEN_ROW_H_
