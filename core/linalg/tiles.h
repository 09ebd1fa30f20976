// How rows are cut into independent pieces of work. The cut depends on the shape alone, never
// on the number of workers, so results do not depend on it either.
#ifndef SALIENT_CORE_LINALG_TILES_H_
#define SALIENT_CORE_LINALG_TILES_H_

#include <algorithm>
#include <cstdint>

namespace salient {

// Rows of a weight handled by one task: enough for an efficient GEMM, small enough that a tile
// of a wide weight stays in cache.
inline constexpr int64_t kRowTile = 64;

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

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_TILES_H_
