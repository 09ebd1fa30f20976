#include "core/calibrate_block.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/statistics/accumulator.h"

namespace salient {
namespace {

using GroupAccumulators = std::array<std::optional<StatisticsAccumulator>, kGroupRoles>;

absl::StatusOr<GroupAccumulators> CreateAccumulators(const Family& family,
                                                     const BlockWeights& block, uint64_t seed) {
  GroupAccumulators accumulators;
  for (const GroupRow& row : family.groups) {
    StatisticsParams params;
    params.in_features = block.linear(row.linears[0]).in_features;
    params.seed = seed;
    absl::StatusOr<StatisticsAccumulator> accumulator = StatisticsAccumulator::Create(
        absl::StrCat(BlockPrefix(family, block.layer), row.name), params);
    if (!accumulator.ok()) return accumulator.status();
    accumulators[static_cast<size_t>(row.role)] = *std::move(accumulator);
  }
  return accumulators;
}

absl::StatusOr<PreparedBlock> Prepare(const BlockForward& forward, const BlockWeights& block,
                                      Executor& executor) {
  const StageScope stage(executor, Stage::kRead);
  return forward.Prepare(block, executor);
}

absl::StatusOr<GroupStatistics> Finish(GroupAccumulators accumulators, Executor& executor) {
  const StageScope stage(executor, Stage::kStatistics);
  GroupStatistics statistics;
  for (size_t group = 0; group < kGroupRoles; ++group) {
    absl::StatusOr<Statistics> finished = std::move(*accumulators[group]).Finish(executor);
    if (!finished.ok()) return finished.status();
    statistics[group] = *std::move(finished);
  }
  return statistics;
}

}  // namespace

absl::StatusOr<GroupStatistics> CalibrateBlock(
    const Family& family, const BlockForward& forward, const BlockWeights& block,
    const HiddenStatesFile& entering, HiddenStatesFile& leaving, uint64_t seed,
    absl::FunctionRef<absl::Status(int64_t tokens)> tokens_done, Executor& executor) {
  const StageScope stage(executor, Stage::kForward);
  absl::StatusOr<GroupAccumulators> accumulators = CreateAccumulators(family, block, seed);
  if (!accumulators.ok()) return accumulators.status();
  const absl::StatusOr<PreparedBlock> prepared = Prepare(forward, block, executor);
  if (!prepared.ok()) return prepared.status();
  const int64_t rows = static_cast<int64_t>(entering.shape().lengths.size());
  for (int64_t row = 0; row < rows; ++row) {
    absl::StatusOr<Matrix> hidden = entering.ReadRow(row);
    if (!hidden.ok()) return hidden.status();
    absl::StatusOr<Matrix> next = forward.Run(
        *prepared, *std::move(hidden),
        [&](GroupRole group, const Activations& input) {
          const StageScope statistics(executor, Stage::kStatistics);
          return (*accumulators)[static_cast<size_t>(group)]->Fold(
              row, 0, input.dtype(), input.data(), input.tokens(), executor);
        },
        executor);
    if (!next.ok()) return next.status();
    if (absl::Status status = leaving.WriteRow(row, *next); !status.ok()) return status;
    if (absl::Status status = tokens_done(next->rows()); !status.ok()) return status;
  }
  return Finish(*std::move(accumulators), executor);
}

}  // namespace salient
