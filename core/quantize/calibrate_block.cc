#include "core/quantize/calibrate_block.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/activations.h"
#include "core/model/blocks/side_by_side.h"
#include "core/model/model.h"
#include "core/model/prepared_block.h"
#include "core/parallel/mutex.h"
#include "core/parallel/tiles.h"
#include "core/statistics/accumulator.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

// These are as BlockPlan::groups.
using GroupAccumulators = std::vector<StatisticsAccumulator>;

StatisticsParams ParamsOf(const BlockPlan& block, const GroupPlan& group, bool whole_gram) {
  StatisticsParams params;
  params.in_features = block.InputsOf(group);
  if (whole_gram) params.KeepWholeGram();
  return params;
}

// Returns how many rows are begun together when rows run side by side: a fast thread need not wait
// for a slow one, and sums of rows that wait for an earlier one stay few.
int RowsTogether(int concurrency) { return 4 * concurrency; }

// Returns the bytes of rows side by side and of the sums of `rows` of them, those that wait among
// them.
int64_t SideBySideBytes(const Model& model, const BlockPlan& block, ComputeDType compute,
                        int64_t tokens, bool whole_gram, int concurrency, int rows) {
  int64_t bytes = concurrency * BlockForward::MemoryBytes(model, block, compute, tokens, 1);
  for (const GroupPlan& group : block.groups) {
    bytes += StatisticsAccumulator::MemoryBytes(ParamsOf(block, group, whole_gram), rows);
  }
  return bytes;
}

bool SideBySide(const Model& model, const BlockPlan& block, ComputeDType compute, int64_t tokens,
                bool whole_gram, int concurrency) {
  return RunsSideBySide(LinearFlop(block, tokens),
                        SideBySideBytes(model, block, compute, tokens, whole_gram, concurrency,
                                        RowsTogether(concurrency)),
                        concurrency);
}

absl::StatusOr<GroupAccumulators> CreateAccumulators(const BlockPlan& block, uint64_t seed,
                                                     bool whole_gram) {
  GroupAccumulators accumulators;
  for (const GroupPlan& group : block.groups) {
    StatisticsParams params = ParamsOf(block, group, whole_gram);
    params.seed = seed;
    absl::StatusOr<StatisticsAccumulator> accumulator =
        StatisticsAccumulator::Create(group.name, params);
    if (!accumulator.ok()) return accumulator.status();
    accumulators.push_back(*std::move(accumulator));
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
  for (StatisticsAccumulator& accumulator : accumulators) {
    absl::StatusOr<Statistics> finished = std::move(accumulator).Finish(executor);
    if (!finished.ok()) return finished.status();
    statistics.emplace_back(*std::move(finished));
  }
  return statistics;
}

}  // namespace

absl::StatusOr<GroupStatistics> CalibrateBlock(
    const BlockForward& forward, const BlockWeights& block, const HiddenStatesFile& entering,
    HiddenStatesFile& leaving, uint64_t seed, bool whole_gram,
    absl::FunctionRef<absl::Status(int64_t tokens)> tokens_done, Executor& executor) {
  const StageScope stage(executor, Stage::kForward);
  const BlockPlan& plan = forward.model().blocks[static_cast<size_t>(block.layer)];
  absl::StatusOr<GroupAccumulators> accumulators = CreateAccumulators(plan, seed, whole_gram);
  if (!accumulators.ok()) return accumulators.status();
  const absl::StatusOr<PreparedBlock> prepared = Prepare(forward, block, executor);
  if (!prepared.ok()) return prepared.status();

  Mutex telling;
  const auto run = [&](int64_t row, Executor& inside) {
    const StageScope of_row(inside, Stage::kForward);
    absl::StatusOr<Matrix> hidden = entering.ReadRow(row);
    if (!hidden.ok()) return hidden.status();
    const absl::StatusOr<Matrix> next = forward.Run(
        *prepared, *std::move(hidden),
        [&](size_t group, const Activations& input) {
          const StageScope of_group(inside, Stage::kStatistics);
          return (*accumulators)[group].FoldRow(row, input.dtype(), input.data(), input.tokens(),
                                                inside);
        },
        inside);
    if (!next.ok()) return next.status();
    if (absl::Status status = leaving.WriteRow(row, *next); !status.ok()) return status;
    const MutexLock lock(telling);
    return tokens_done(next->rows());
  };

  const std::vector<int64_t>& lengths = entering.shape().lengths;
  const auto rows = static_cast<int64_t>(lengths.size());
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const int concurrency = executor.Concurrency();
  if (!SideBySide(forward.model(), plan, forward.compute(), longest, whole_gram, concurrency)) {
    for (int64_t row = 0; row < rows; ++row) {
      if (absl::Status status = run(row, executor); !status.ok()) return status;
    }
    return Finish(*std::move(accumulators), executor);
  }
  RowExecutor alone(executor);
  const RowTiles tiles(rows, RowsTogether(concurrency));
  for (int64_t tile = 0; tile < tiles.size(); ++tile) {
    const absl::Status status = executor.ForEach(
        tiles.Count(tile), [&](int64_t i) { return run(tiles.First(tile) + i, alone); });
    if (!status.ok()) return status;
  }
  return Finish(*std::move(accumulators), executor);
}

int64_t CalibrateBlockMemoryBytes(const Model& model, const BlockPlan& block, ComputeDType compute,
                                  int64_t tokens, bool whole_gram, int concurrency) {
  const int64_t prepared = PreparedBlock::MemoryBytes(block, compute);
  if (SideBySide(model, block, compute, tokens, whole_gram, concurrency)) {
    // Rows of about one length end in order but for one or so.
    return prepared +
           SideBySideBytes(model, block, compute, tokens, whole_gram, concurrency, concurrency + 1);
  }
  int64_t accumulators = 0;
  for (const GroupPlan& group : block.groups) {
    accumulators += StatisticsAccumulator::MemoryBytes(ParamsOf(block, group, whole_gram));
  }
  return prepared + accumulators +
         BlockForward::MemoryBytes(model, block, compute, tokens, concurrency);
}

}  // namespace salient
