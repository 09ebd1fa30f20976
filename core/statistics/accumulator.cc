#include "core/statistics/accumulator.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "core/parallel/mutex.h"
#include "core/parallel/tiles.h"
#include "core/statistics/open_row.h"
#include "core/statistics/panel_scratch.h"
#include "core/statistics/row_set.h"
#include "core/statistics/token_sampler.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

// Copies the upper triangle of a square matrix of row stride `n` to the lower, in rows [first,
// end). Few of them stay in cache while their columns are gone through.
void MirrorUpper(int64_t n, int64_t first, int64_t end, int64_t* matrix) {
  for (int64_t column = 0; column < end; ++column) {
    for (int64_t row = std::max(first, column + 1); row < end; ++row) {
      matrix[row * n + column] = matrix[column * n + row];
    }
  }
}

}  // namespace

class StatisticsAccumulator::Impl {
 public:
  Impl(std::string name, const StatisticsParams& params)
      : name_(std::move(name)),
        totals_(EmptyStatistics(params)),
        scratch_(params),
        sampler_(params) {}

  absl::Status Fold(int64_t calibration_row, int64_t first_position, DType dtype,
                    const std::byte* activations, int64_t tokens, Executor& executor) {
    const MutexLock lock(mutex_);
    if (!failure_.ok()) return failure_;
    failure_ = CheckBatch(calibration_row, dtype, tokens);
    if (failure_.ok()) failure_ = Open(calibration_row, first_position, executor);
    if (failure_.ok()) {
      const int64_t position = open_row_->next_position();
      failure_ = open_row_->Append(dtype, activations, tokens, executor);
      if (failure_.ok()) Sample(calibration_row, position, dtype, activations, tokens);
    }
    return failure_;
  }

  absl::Status FoldRow(int64_t calibration_row, DType dtype, const std::byte* activations,
                       int64_t tokens, Executor& executor) {
    absl::StatusOr<std::unique_ptr<OpenRow>> row = Begin(calibration_row, dtype, tokens);
    if (!row.ok()) return row.status();
    const bool aligned =
        reinterpret_cast<uintptr_t>(activations) % static_cast<uintptr_t>(SizeOf(dtype)) == 0;
    absl::Status status = aligned ? (*row)->TakeWhole(dtype, activations, tokens, executor)
                                  : (*row)->Append(dtype, activations, tokens, executor);
    if (!status.ok()) return Fail(std::move(status));
    const bool is_next = ClaimIfNext(calibration_row);
    status = (*row)->FoldLastTile(is_next ? &totals_ : nullptr, executor);
    if (!status.ok()) return Fail(std::move(status));
    const MutexLock lock(mutex_);
    Sample(calibration_row, 0, dtype, activations, tokens);
    if (is_next) {
      ++next_row_;
      free_rows_.push_back(*std::move(row));
    } else {
      waiting_.emplace(calibration_row, *std::move(row));
      if (adding_) return failure_;
      adding_ = true;
    }
    return AddWaiting(executor);
  }

  absl::Status Merge(const Statistics& part) {
    const MutexLock lock(mutex_);
    if (!failure_.ok()) return failure_;
    absl::Status status = CheckDisjoint(name_, part.rows, begun_);
    if (status.ok()) status = CheckRowCount(name_, part.rows.size() + begun_.size());
    if (!status.ok()) return status;
    // MergeStatistics merges samples, too, so that of the sampler goes in, sorted, and is put back
    // as a heap.
    totals_.sample = sampler_.Take();
    status = MergeStatistics(name_, part, totals_);
    sampler_.Restore(std::exchange(totals_.sample, {}));
    if (status.ok()) begun_.InsertAll(part.rows);
    return status;
  }

  absl::StatusOr<Statistics> Finish(Executor& executor) {
    const MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = Close(executor);
    if (!failure_.ok()) return failure_;
    if (!waiting_.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(name_, ": calibration row ", next_row_, " never came, but row ",
                       waiting_.begin()->first, " did; expected every row from 0"));
    }
    if (totals_.token_count == 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(name_, ": statistics of 0 tokens; expected at least 1"));
    }
    const StatisticsParams& params = totals_.params;
    if (params.ExactGram()) {
      const RowTiles tiles(params.in_features, kRowTile);
      failure_ = executor.ForEach(tiles.size(), [&](int64_t tile) {
        const int64_t first = tiles.First(tile);
        MirrorUpper(params.in_features, first, first + tiles.Count(tile), totals_.gram.data());
        return absl::OkStatus();
      });
    } else {
      const int64_t width = params.block_width;
      failure_ = executor.ForEach(params.Blocks(), [&](int64_t block) {
        MirrorUpper(width, 0, width, totals_.blocks.data() + block * width * width);
        return absl::OkStatus();
      });
    }
    if (!failure_.ok()) return failure_;
    totals_.sample = sampler_.Take();
    return std::move(totals_);
  }

 private:
  absl::Status CheckBatch(int64_t calibration_row, DType dtype, int64_t tokens) const {
    if (calibration_row < 0 || calibration_row == std::numeric_limits<int64_t>::max()) {
      return absl::InvalidArgumentError(absl::StrCat(name_, ": calibration row is ",
                                                     calibration_row, "; expected 0 to 2^63 - 2"));
    }
    if (!IsFloat(dtype)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_, ": activations are ", Name(dtype), "; expected F32, F16 or BF16"));
    }
    if (tokens <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_, ": batch of ", tokens, " tokens; expected at least 1"));
    }
    return absl::OkStatus();
  }

  absl::Status CountedBefore(int64_t calibration_row) const {
    return absl::FailedPreconditionError(
        absl::StrCat(name_, ": calibration row ", calibration_row,
                     " was counted before; expected each row once, without others in between"));
  }

  // Makes `calibration_row` the open row, or checks that the batch continues it.
  absl::Status Open(int64_t calibration_row, int64_t first_position, Executor& executor)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool continues = is_open_ && open_row_->calibration_row() == calibration_row;
    if (!continues && begun_.Contains(calibration_row)) return CountedBefore(calibration_row);
    const int64_t expected = continues ? open_row_->next_position() : 0;
    if (first_position != expected) {
      return absl::OutOfRangeError(absl::StrCat(name_, ": batch of calibration row ",
                                                calibration_row, " begins at position ",
                                                first_position, "; expected ", expected));
    }
    if (continues) return absl::OkStatus();
    if (next_row_ > 0 || !waiting_.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(name_, ": calibration row ", calibration_row,
                       " came in batches after whole rows; expected rows of one kind"));
    }
    if (absl::Status status = Close(executor); !status.ok()) return status;
    if (absl::Status status = CheckRowCount(name_, begun_.size() + 1); !status.ok()) return status;
    if (open_row_ == nullptr)
      open_row_ = std::make_unique<OpenRow>(name_, totals_.params, scratch_);
    open_row_->Begin(calibration_row);
    is_open_ = true;
    begun_.Insert(calibration_row);
    return absl::OkStatus();
  }

  absl::Status Close(Executor& executor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!is_open_) return absl::OkStatus();
    is_open_ = false;
    return open_row_->FoldLastTile(&totals_, executor);
  }

  void Sample(int64_t calibration_row, int64_t first_position, DType dtype,
              const std::byte* activations, int64_t tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const int64_t in_features = totals_.params.in_features;
    for (int64_t t = 0; t < tokens; ++t) {
      float* sampled = sampler_.Offer(calibration_row, first_position + t);
      if (sampled == nullptr) continue;
      WidenToF32(dtype, activations + t * in_features * SizeOf(dtype), in_features, sampled);
    }
  }

  // Returns a row of its own for FoldRow, begun.
  absl::StatusOr<std::unique_ptr<OpenRow>> Begin(int64_t calibration_row, DType dtype,
                                                 int64_t tokens) {
    std::unique_ptr<OpenRow> row;
    {
      const MutexLock lock(mutex_);
      if (!failure_.ok()) return failure_;
      failure_ = CheckBatch(calibration_row, dtype, tokens);
      if (failure_.ok() && is_open_) {
        failure_ = absl::FailedPreconditionError(
            absl::StrCat(name_, ": calibration row ", calibration_row,
                         " came whole after batches; expected rows of one kind"));
      }
      if (failure_.ok() && !begun_.Insert(calibration_row)) {
        failure_ = CountedBefore(calibration_row);
      }
      if (failure_.ok()) failure_ = CheckRowCount(name_, begun_.size());
      if (!failure_.ok()) return failure_;
      if (!free_rows_.empty()) {
        row = std::move(free_rows_.back());
        free_rows_.pop_back();
      }
    }
    if (row == nullptr) row = std::make_unique<OpenRow>(name_, totals_.params, scratch_);
    row->Begin(calibration_row);
    return row;
  }

  // Returns whether the row may be added to the totals as it is folded. If so, nobody else adds
  // until AddWaiting.
  bool ClaimIfNext(int64_t calibration_row) {
    const MutexLock lock(mutex_);
    if (adding_ || !failure_.ok() || calibration_row != next_row_) return false;
    adding_ = true;
    return true;
  }

  // Nobody waits for a row: whoever adds one adds those that follow it and wait. Needs adding_ set
  // by the caller, and clears it.
  absl::Status AddWaiting(Executor& executor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (failure_.ok() && !waiting_.empty() && waiting_.begin()->first == next_row_) {
      std::unique_ptr<OpenRow> next = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      mutex_.Unlock();
      absl::Status status = next->AddTo(totals_, executor);
      mutex_.Lock();
      free_rows_.push_back(std::move(next));
      ++next_row_;
      if (failure_.ok()) failure_ = std::move(status);
    }
    adding_ = false;
    return failure_;
  }

  // The first failure is what everybody else gets.
  absl::Status Fail(absl::Status status) {
    const MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = status;
    return status;
  }

  const std::string name_;
  // Closed rows are in the totals. They belong to whoever set adding_; rows that come in batches
  // come one at a time.
  Statistics totals_;
  PanelScratchPool scratch_;

  Mutex mutex_;
  // Rows under way are in it, besides those of the totals.
  RowSet begun_ ABSL_GUARDED_BY(mutex_);
  TokenSampler sampler_ ABSL_GUARDED_BY(mutex_);
  // Every later call repeats the first failure.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);

  // This one comes in batches.
  std::unique_ptr<OpenRow> open_row_ ABSL_GUARDED_BY(mutex_);
  bool is_open_ ABSL_GUARDED_BY(mutex_) = false;

  // These come whole; some wait for the rows before them.
  std::map<int64_t, std::unique_ptr<OpenRow>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<OpenRow>> free_rows_ ABSL_GUARDED_BY(mutex_);
  int64_t next_row_ ABSL_GUARDED_BY(mutex_) = 0;
  bool adding_ ABSL_GUARDED_BY(mutex_) = false;
};

StatisticsAccumulator::StatisticsAccumulator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StatisticsAccumulator::StatisticsAccumulator(StatisticsAccumulator&&) noexcept = default;
StatisticsAccumulator& StatisticsAccumulator::operator=(StatisticsAccumulator&&) noexcept = default;
StatisticsAccumulator::~StatisticsAccumulator() = default;

absl::StatusOr<StatisticsAccumulator> StatisticsAccumulator::Create(
    std::string name, const StatisticsParams& params) {
  if (absl::Status status = CheckStatisticsParams(name, params); !status.ok()) return status;
  return StatisticsAccumulator(std::make_unique<Impl>(std::move(name), params));
}

absl::Status StatisticsAccumulator::Fold(int64_t calibration_row, int64_t first_position,
                                         DType dtype, const std::byte* activations, int64_t tokens,
                                         Executor& executor) {
  return impl_->Fold(calibration_row, first_position, dtype, activations, tokens, executor);
}

absl::Status StatisticsAccumulator::FoldRow(int64_t calibration_row, DType dtype,
                                            const std::byte* activations, int64_t tokens,
                                            Executor& executor) {
  return impl_->FoldRow(calibration_row, dtype, activations, tokens, executor);
}

absl::Status StatisticsAccumulator::Merge(const Statistics& part) { return impl_->Merge(part); }

absl::StatusOr<Statistics> StatisticsAccumulator::Finish(Executor& executor) && {
  return impl_->Finish(executor);
}

int64_t StatisticsAccumulator::MemoryBytes(const StatisticsParams& params, int rows_at_once,
                                           int threads) {
  if (!CheckStatisticsParams("", params).ok()) return std::numeric_limits<int64_t>::max();
  const int64_t in_features = params.in_features;
  const int64_t totals =
      in_features * (8 + 8 + 4 + 4 + 4) +
      (params.ExactGram() ? in_features * in_features * 8
                          : params.Blocks() * params.block_width * params.block_width * 8 +
                                params.sketch_rows * (in_features + 1) * 8);
  // Twice: sorting and merging the sample write a second one.
  const int64_t sample = 2 * params.sample_tokens * (in_features * 4 + 32);
  return OpenRow::MemoryBytes(params, /*whole=*/false) +
         (rows_at_once - 1) * OpenRow::MemoryBytes(params, /*whole=*/true) +
         threads * PanelScratch::MemoryBytes(params) + totals + sample;
}

}  // namespace salient
