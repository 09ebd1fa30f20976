// Folds calibration activations into Statistics as they arrive and forgets them.
#ifndef SALIENT_CORE_STATISTICS_ACCUMULATOR_H_
#define SALIENT_CORE_STATISTICS_ACCUMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"

namespace salient {

// The unit is one calibration row, computed alone and in tiles whose shape depends on the
// row's length and dtype only, so the statistics are bit-identical however rows are cut into
// batches, ordered, spread over machines or threads, or computed by how many workers.
//
// Rows come in one of two ways, which do not mix in one accumulator:
//   Fold     in batches, one row after another, in any order of rows. Not thread-safe.
//   FoldRow  whole, in rows 0, 1, 2 ..., from any number of threads at once.
class StatisticsAccumulator {
 public:
  // `name` appears in errors. INVALID_ARGUMENT if a param is out of range.
  static absl::StatusOr<StatisticsAccumulator> Create(std::string name,
                                                      const StatisticsParams& params);
  StatisticsAccumulator(StatisticsAccumulator&&) noexcept;
  StatisticsAccumulator& operator=(StatisticsAccumulator&&) noexcept;
  ~StatisticsAccumulator();

  // Folds activations [tokens, in_features] of `dtype` (F32, F16, BF16), positions
  // [first_position, first_position + tokens) of `calibration_row`. Positions of a row come
  // in order, without holes, from 0, all of one dtype.
  //
  // Errors: INVALID_ARGUMENT for a NaN or infinity (names row, position, column);
  // OUT_OF_RANGE if first_position is not the next one of the open row (or not 0 for a new
  // row, or of a row too many); FAILED_PRECONDITION if the row was counted before. The accumulator
  // is unusable after an error.
  absl::Status Fold(int64_t calibration_row, int64_t first_position, DType dtype,
                    const std::byte* activations, int64_t tokens, Executor& executor);

  // Folds all the activations [tokens, in_features] of one row. Thread-safe: different rows may be
  // folded at the same time. Rows are counted from 0 without holes and begun about in order; they
  // are added to the totals in ascending order, whatever the order in which they end. A row that
  // ends early leaves its sums to wait, about MemoryBytes(params, 2) - MemoryBytes(params, 1) each:
  // the caller bounds how far rows run ahead. Nobody waits for another's row, so tasks of any
  // executor may call this, with an executor of their own.
  //
  // What a row needs no copy of: aligned activations. Errors: as Fold. After the first, every call
  // fails.
  absl::Status FoldRow(int64_t calibration_row, DType dtype, const std::byte* activations,
                       int64_t tokens, Executor& executor);

  // Adds finished statistics of other rows. Errors as MergeStatistics. Not while rows are folded.
  absl::Status Merge(const Statistics& part);

  // Closes the open row and gives the result up. FAILED_PRECONDITION if no token came, or if
  // FoldRow never got a row before one that it got; CANCELLED from the executor.
  absl::StatusOr<Statistics> Finish(Executor& executor) &&;

  // Bytes an accumulator with these params holds at most, when FoldRow has `rows_at_once` rows
  // under way or waiting (1 for Fold) and `threads` run its tasks.
  static int64_t MemoryBytes(const StatisticsParams& params, int rows_at_once = 1, int threads = 1);

 private:
  class Impl;
  explicit StatisticsAccumulator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_ACCUMULATOR_H_
