// The calibration row that is being read: its tokens, a tile at a time, and its partial sums.
#ifndef SALIENT_CORE_STATISTICS_OPEN_ROW_H_
#define SALIENT_CORE_STATISTICS_OPEN_ROW_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/parallel/executor.h"
#include "core/statistics/panel_scratch.h"
#include "core/statistics/statistics.h"
#include "core/statistics/token_tile.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace salient {

// A row is cut into whole tiles and a last one, which may be whole too. X^T X and R X of the tiles
// add up in f32, in tile order. So every product has a shape that the row's length and dtype alone
// decide, and the batches in which the row came leave no trace. When the row ends, its partial
// sums are added to totals as words of binned_sums.h: at once, panel by panel as they come out of
// the cache, or later, when rows before it are there.
//
// Not thread-safe; work is spread over the executor by columns, a fixed cut.
class OpenRow {
 public:
  // `name` appears in errors. Scratch outlives the row.
  OpenRow(std::string name, const StatisticsParams& params, PanelScratchPool& scratch);

  // Begins with no tokens; the row before must have been closed.
  void Begin(int64_t calibration_row);

  int64_t calibration_row() const { return calibration_row_; }
  int64_t next_position() const { return next_position_; }

  // Takes the next `tokens` vectors, copying them. INVALID_ARGUMENT for a NaN or infinity, naming
  // row, position and column, or if the row began with another dtype.
  absl::Status Append(DType dtype, const std::byte* activations, int64_t tokens,
                      Executor& executor);

  // Takes all the `tokens` of a row that has just begun. Activations are aligned to their dtype
  // and live until FoldLastTile. INVALID_ARGUMENT for a NaN or infinity, here or there.
  absl::Status TakeWhole(DType dtype, const std::byte* activations, int64_t tokens,
                         Executor& executor);

  // Multiplies out what is left. Adds the row to `totals` too, unless nullptr: then AddTo does.
  // INVALID_ARGUMENT if the squares of a column might overflow f32 (names it).
  absl::Status FoldLastTile(Statistics* totals, Executor& executor);

  // Adds the row's sums, products and number of tokens to `totals`, and the row to their rows.
  // Errors as FoldLastTile.
  absl::Status AddTo(Statistics& totals, Executor& executor);

  // Returns the bytes of a row that comes in batches, and of one that comes whole.
  static int64_t MemoryBytes(const StatisticsParams& params, bool whole);

 private:
  // A product of two panels; i <= j.
  struct PanelPair {
    int64_t i = 0;
    int64_t j = 0;
  };

  struct Raise {
    int64_t column;  // It is that of the panel.
    int frames;
  };
  // The columns of a panel whose squares had this exponent in the totals and have that with the
  // row.
  struct Growth {
    int32_t before;
    int32_t after;
    std::vector<int64_t> columns;
  };

  int64_t Columns(int64_t panel) const;
  absl::Status NonFinite(DType dtype, const std::byte* activations, int64_t tokens,
                         int64_t first_position) const;

  absl::Status FoldTile(const TokenTile& tile, Statistics* totals, Executor& executor);
  absl::Status FoldGram(const TokenTile& tile, Statistics* totals, Executor& executor);
  absl::Status FoldBlocks(const TokenTile& tile, Statistics* totals, Executor& executor);
  void SumPanel(int64_t panel, const TokenPanel& laid);

  // Prepares for adding to these totals: first BeginAdding, then a panel, then its pairs and its
  // sketch, then EndAdding.
  void BeginAdding(const Statistics& totals);
  absl::Status AddPanelTo(int64_t panel, Statistics& totals);
  void AddPairTo(PanelPair pair, const float* product, Statistics& totals) const;
  void AddSketchTo(int64_t panel, const float* sketch, Statistics& totals) const;
  void EndAdding(Statistics& totals);

  std::vector<Growth> GrowthsOf(int64_t panel, const Statistics& totals) const;
  // Returns the columns of a panel whose sums need a higher frame with this row.
  std::vector<Raise> RaisesOf(int64_t panel, const Statistics& totals) const;
  // Moves what stands in the totals to the frames that they have with this row.
  void RaiseProducts(PanelPair pair, int64_t* total, int64_t ld, const Statistics& totals) const;

  std::string name_;
  StatisticsParams params_;
  PanelScratchPool& scratch_;
  std::vector<PanelPair> pairs_;

  int64_t calibration_row_ = 0;
  int64_t next_position_ = 0;
  bool first_tile_ = true;  // Nothing was multiplied yet.
  TokenTile pending_;  // It was taken, not yet multiplied; its last token precedes next_position_.
  std::atomic<bool> non_finite_ = false;  // It tells of the tile that is being folded.

  std::vector<std::byte> buffer_;  // It holds a whole tile, for rows in batches.
  Matrix panels_;                  // They hold a whole tile for the Gram, laid out panel by panel.
  Matrix signs_;                   // It is R of the tile, [sketch_rows, depth].
  // Kept only when a row has several tiles or has to wait.
  Matrix products_;          // They are [pairs * block_width, block_width].
  Matrix sketch_;            // It is [panels * sketch_rows, block_width].
  std::vector<double> sum_;  // It is [in_features], as the next two are.
  std::vector<double> sum_abs_;
  std::vector<float> max_abs_;
  std::vector<double> sketch_row_sums_;  // They are [sketch_rows] whole numbers.

  // These bound the totals once this row is in them: CountExponent of their rows, without it and
  // with it; the exponents [in_features]; and the same for AddBinnedRows.
  int count_before_ = 0;
  int count_ = 0;
  std::vector<int32_t> sum_exponents_;
  std::vector<int32_t> square_exponents_;
  std::vector<double> sum_bounds_;
  std::vector<double> square_bounds_;
  std::vector<int32_t> no_exponents_;  // [sketch_rows]: the sketch's bounds are its columns' alone.
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_OPEN_ROW_H_
