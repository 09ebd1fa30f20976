// Holds one group while its weights and calibration arrive, and what it becomes when it is whole.
#ifndef SALIENT_SERVER_CALLS_OPEN_GROUP_H_
#define SALIENT_SERVER_CALLS_OPEN_GROUP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/group/quantize_group.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "proto/wire/chunk.h"
#include "server/calls/call_limits.h"
#include "server/calls/call_messages.h"
#include "server/calls/group_calibration.h"

namespace salient {

// Is a group that is whole. It owns its weights, in the dtype they came in, and its statistics.
struct ClosedGroup {
  GroupSpec spec;
  std::vector<std::unique_ptr<std::byte[]>>
      weights;  // They stand by Linear, [out_features, in_features].
  Statistics statistics;

  // Runs the core. Errors carry a reason: NON_FINITE, CANCELLED, DEADLINE_EXCEEDED, INTERNAL.
  absl::StatusOr<GroupResult> Quantize(const CallOptions& options, Executor& executor) const;
};

// Is not thread-safe. Errors carry reason and field (call_error.h) and name the tensor; after one
// the group is unusable.
class OpenGroup {
 public:
  // Allocates the weights. `spec` has passed CheckGroup.
  static absl::StatusOr<OpenGroup> Create(GroupSpec spec, const CallOptions& options);

  const GroupSpec& spec() const { return spec_; }

  // Copies a part of a weight. Its reasons are BAD_HEADER (index), CHUNK_TOO_LARGE, OFFSET,
  // BAD_SHAPE (beyond the end), CHUNK_CRC and NON_FINITE.
  absl::Status AddWeight(const WeightData& weight);

  // Returns the number of tokens. Its reasons are BAD_HEADER (no activation_dtype),
  // CHUNK_TOO_LARGE, BAD_SHAPE, CHUNK_CRC, POSITION, DUPLICATE_ROW and NON_FINITE.
  absl::StatusOr<int64_t> AddActivations(const ActivationData& batch, Executor& executor);

  // Returns the bytes to reserve before the next AddStatistics: what a further file takes until it
  // is merged, and of one that keeps the whole X^T X what stays of it; 0 inside a file. BAD_SHAPE
  // for a size below 1, MEMORY for one above `limits`.
  absl::StatusOr<int64_t> StatisticsMemoryBytes(const StatisticsData& part,
                                                const CallLimits& limits) const;

  // Returns whether the file is whole; it was then merged and its bytes are gone. The first that
  // comes may keep the whole X^T X though the call has no need of it: then all do. Its reasons are
  // BAD_SHAPE, CHUNK_TOO_LARGE, OFFSET, CHUNK_CRC, STATISTICS and DUPLICATE_ROW.
  absl::StatusOr<bool> AddStatistics(const StatisticsData& part);

  // Returns what the group holds, until it is quantized, beyond what was reserved for its header:
  // because a file kept the whole X^T X.
  int64_t whole_gram_bytes() const { return calibration_.whole_gram_bytes(); }

  // Ends the input. Its reasons are MISSING_BYTES and NO_TOKENS.
  absl::StatusOr<ClosedGroup> Close(Executor& executor) &&;

 private:
  struct Weight {
    std::string tensor;  // It is "<linear>.weight".
    ChunkCursor cursor;
    int64_t finite_elements = 0;  // So many were checked so far.
    std::unique_ptr<std::byte[]> data;
  };
  struct StatisticsFile {
    ChunkCursor cursor;
    std::vector<std::byte> bytes;
  };

  OpenGroup(GroupSpec spec, GroupCalibration calibration);
  absl::Status CheckFiniteSoFar(const LinearSpec& linear, Weight& weight) const;
  absl::Status MergeStatisticsFile();
  std::string StatisticsName() const;

  GroupSpec spec_;
  std::vector<Weight> weights_;
  GroupCalibration calibration_;
  std::optional<StatisticsFile> file_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_OPEN_GROUP_H_
