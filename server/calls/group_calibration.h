// Holds what is known of an open group's inputs: activations that were folded, statistics files
// that were merged.
#ifndef SALIENT_SERVER_CALLS_GROUP_CALIBRATION_H_
#define SALIENT_SERVER_CALLS_GROUP_CALIBRATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"

namespace salient {

// Is not thread-safe. Errors carry a reason; after one it is unusable.
class GroupCalibration {
 public:
  // Returns INTERNAL if the core refuses the parameters.
  static absl::StatusOr<GroupCalibration> Create(const std::string& group,
                                                 const StatisticsParams& params);

  // Folds as StatisticsAccumulator::Fold does. Its reasons are NON_FINITE, POSITION and
  // DUPLICATE_ROW.
  absl::Status Fold(int64_t calibration_row, int64_t first_position, DType dtype,
                    const std::byte* activations, int64_t tokens, Executor& executor);

  // Bytes it takes at most to merge a file of this size, beside the file, and of one that keeps the
  // whole X^T X what stays of it.
  int64_t MergeBytes(int64_t file_bytes) const;

  // Merges the statistics of a file, called `name` in errors. The first that comes may keep the
  // whole X^T X though the call has no need of it: then all do. Its reasons are STATISTICS and
  // DUPLICATE_ROW.
  absl::Status Merge(absl::string_view name, Statistics statistics);

  bool has_tokens() const { return has_tokens_; }
  // Returns what is held, until the group is quantized, beyond what its header says: because a file
  // kept the whole X^T X.
  int64_t whole_gram_bytes() const { return whole_gram_bytes_; }

  absl::StatusOr<Statistics> Finish(Executor& executor) &&;

 private:
  GroupCalibration(std::string group, const StatisticsParams& params,
                   StatisticsAccumulator accumulator)
      : group_(std::move(group)), params_(params), accumulator_(std::move(accumulator)) {}
  absl::Status CheckGram(absl::string_view name, const StatisticsParams& file) const;
  absl::Status KeepWholeGram();

  std::string group_;
  StatisticsParams params_;
  StatisticsAccumulator accumulator_;
  bool has_tokens_ = false;
  int64_t whole_gram_bytes_ = 0;
};

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_GROUP_CALIBRATION_H_
