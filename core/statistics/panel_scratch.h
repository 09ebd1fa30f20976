// Memory in which a thread multiplies a panel, small enough to stay in its cache.
#ifndef SALIENT_CORE_STATISTICS_PANEL_SCRATCH_H_
#define SALIENT_CORE_STATISTICS_PANEL_SCRATCH_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "core/parallel/mutex.h"
#include "core/statistics/statistics.h"
#include "core/statistics/token_tile.h"
#include "core/tensor/matrix.h"

namespace salient {

struct PanelScratch {
  explicit PanelScratch(const StatisticsParams& params)
      : product(params.block_width, params.block_width) {
    if (params.ExactGram()) return;
    panel = Matrix(params.block_width, TokenTile::kBytesPerColumn / 4);
    sketch = Matrix(params.sketch_rows, params.block_width);
  }

  static int64_t MemoryBytes(const StatisticsParams& params) {
    const int64_t width = params.block_width;
    const int64_t product = width * width * 4;
    return params.ExactGram()
               ? product
               : product + width * (TokenTile::kBytesPerColumn + params.sketch_rows * 4);
  }

  Matrix product;  // It is [block_width, block_width].
  Matrix panel;    // It has the bytes of a whole tile's panel.
  Matrix sketch;   // It is [sketch_rows, block_width].
};

// Lends scratch to tasks, one for each that runs at a time. Thread-safe.
class PanelScratchPool {
 public:
  explicit PanelScratchPool(const StatisticsParams& params) : params_(params) {}

  class Loan {
   public:
    Loan(PanelScratchPool& pool, std::unique_ptr<PanelScratch> scratch)
        : pool_(pool), scratch_(std::move(scratch)) {}
    ~Loan() { pool_.Return(std::move(scratch_)); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    PanelScratch* operator->() { return scratch_.get(); }

   private:
    PanelScratchPool& pool_;
    std::unique_ptr<PanelScratch> scratch_;
  };

  Loan Borrow() {
    {
      const MutexLock lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<PanelScratch> scratch = std::move(free_.back());
        free_.pop_back();
        return Loan(*this, std::move(scratch));
      }
    }
    return Loan(*this, std::make_unique<PanelScratch>(params_));
  }

 private:
  void Return(std::unique_ptr<PanelScratch> scratch) {
    const MutexLock lock(mutex_);
    free_.push_back(std::move(scratch));
  }

  const StatisticsParams params_;
  Mutex mutex_;
  std::vector<std::unique_ptr<PanelScratch>> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_PANEL_SCRATCH_H_
