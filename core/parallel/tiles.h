// Says how rows are cut into independent pieces of work. The cut depends on the shape alone, never
// on the number of workers, so results do not depend on it either.
#ifndef SALIENT_CORE_PARALLEL_TILES_H_
#define SALIENT_CORE_PARALLEL_TILES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace salient {

// One task handles so many rows of a weight: enough for an efficient GEMM, small enough that a tile
// of a wide weight stays in cache.
inline constexpr int64_t kRowTile = 64;

// Cuts `rows` rows into tiles of `tile` rows; the last one may be shorter.
class RowTiles {
 public:
  RowTiles(int64_t rows, int64_t tile) : rows_(rows), tile_(tile) {}
  int64_t size() const { return (rows_ + tile_ - 1) / tile_; }
  int64_t First(int64_t index) const { return index * tile_; }
  int64_t Count(int64_t index) const { return std::min(tile_, rows_ - First(index)); }

 private:
  int64_t rows_;
  int64_t tile_;
};

// Lists the tiles of several matrices, one after the other, so that one loop covers them all.
class StackedTiles {
 public:
  struct Tile {
    int64_t index;  // It is that of the matrix.
    int64_t first;  // It is a row.
    int64_t count;
  };

  StackedTiles(absl::Span<const int64_t> rows, int64_t tile) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const RowTiles cut(rows[i], tile);
      for (int64_t t = 0; t < cut.size(); ++t) {
        tiles_.push_back({static_cast<int64_t>(i), cut.First(t), cut.Count(t)});
      }
    }
  }
  int64_t size() const { return static_cast<int64_t>(tiles_.size()); }
  const Tile& At(int64_t index) const { return tiles_[index]; }

 private:
  std::vector<Tile> tiles_;
};

}  // namespace salient

#endif  // SALIENT_CORE_PARALLEL_TILES_H_
