#include "core/cost/model_cost.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/config/model/model_config.h"
#include "core/cost/block_cost.h"
#include "core/evaluate/evaluate_model.h"
#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/model.h"
#include "core/quantize/calibrate_block.h"
#include "core/result/shared_results.h"
#include "core/statistics/statistics.h"

namespace salient {
namespace {

// The allocator keeps memory that was freed between pieces still in use; generated code and each
// worker's own heap take some as well. The numbers were measured with glibc.
constexpr double kKeptByAllocator = 1.15;
constexpr int64_t kRuntimeBytes = 3 << 20;
constexpr int64_t kWorkerBytes = 4 << 20;

// Two workers were 1.2 to 1.4 times as fast as one at hidden size 256, 1.3 to 1.5 at 512 and 1.9 at
// 1024.
double ParallelShare(const ModelConfig& config) {
  return std::min(1.0, static_cast<double>(config.hidden_size) / 1024);
}

int64_t ResidentBytes(int64_t held) {
  return static_cast<int64_t>(kKeptByAllocator * static_cast<double>(held)) + kRuntimeBytes;
}

int64_t OuterElements(const Model& model) {
  int64_t elements = 0;
  for (const TensorSpec& spec : OuterTensors(model)) elements += ElementsOf(spec);
  return elements;
}

int64_t Sum(absl::Span<const int64_t> values) {
  int64_t sum = 0;
  for (int64_t value : values) sum += value;
  return sum;
}

int64_t Largest(absl::Span<const int64_t> values) {
  int64_t largest = 0;
  for (int64_t value : values) largest = std::max(largest, value);
  return largest;
}

absl::Status CheckWholeGram(const GroupPlan& group, const StatisticsParams& statistics,
                            const Method& method) {
  if (!NeedsWholeGram(method) || statistics.in_features <= kMostWholeGram) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(group.path, ": in_features is ", statistics.in_features, "; expected at most ",
                   kMostWholeGram,
                   " with gptq rounding, which keeps the whole X^T X; block rounding has no "
                   "such limit"));
}

}  // namespace

absl::StatusOr<ModelCost> CostOfQuantizing(const Model& model, absl::Span<const int64_t> row_tokens,
                                           const QuantizeModelParams& params, int concurrency) {
  const ModelConfig& config = model.config;
  const auto results = ShareResults(model, params.outputs, params.strict, params.overrides,
                                    params.max_relative_error != 0);
  if (!results.ok()) return results.status();
  ModelCost cost;
  const double layers = static_cast<double>(config.num_hidden_layers);
  const std::vector<BlockKind> kinds = KindsOf(model);
  WorkCount work(model, model.blocks.front());
  int64_t block_bytes = 0;  // It is that of the largest block.
  int64_t calibrating = 0;
  double blocks_bytes = 0;
  for (const BlockKind& kind : kinds) {
    const BlockPlan& plan = *kind.block;
    const auto count = static_cast<double>(kind.count);
    WorkCount calibration(model, plan);
    calibration.ReadBlock(/*decoded=*/false);
    for (int64_t tokens : row_tokens) calibration.Forward(tokens, params.compute);
    for (const GroupPlan& group : plan.groups) {
      const StatisticsParams statistics = StatisticsOf(plan, group, params.method);
      if (absl::Status status = CheckWholeGram(group, statistics, params.method); !status.ok()) {
        return status;
      }
      for (int64_t tokens : row_tokens) calibration.Fold(tokens, statistics, params.compute);
    }
    calibration.Repeat(count);
    work.Add(calibration);
    const int64_t bytes = StoredBytes(config) * plan.Weights();
    block_bytes = std::max(block_bytes, bytes);
    blocks_bytes += count * static_cast<double>(bytes);
    calibrating = std::max(
        calibrating, CalibrateBlockMemoryBytes(model, plan, params.compute, Largest(row_tokens),
                                               NeedsWholeGram(params.method), concurrency));
  }

  // Overrides may make a difference between blocks of one kind.
  std::vector<BlockKind> quantized = kinds;
  if (!params.overrides.empty()) {
    quantized.clear();
    for (const BlockPlan& block : model.blocks) quantized.push_back({&block, 1});
  }
  int64_t written = 0;  // Its thread writes a block while others compute.
  int64_t most = 0;
  for (const SharedResult& result : *results) {
    const bool last = &result == &results->back();
    int64_t largest = 0;
    for (const BlockKind& kind : quantized) {
      WorkCount quantizing(model, *kind.block);
      const BlockCost of_block = CostOfBlock(*kind.block, StoredBytes(config), params, result,
                                             result.fits[static_cast<size_t>(kind.block->layer)],
                                             last, concurrency, quantizing);
      // The weights are copied for all results but the last, and the result before is written.
      most = std::max(most, of_block.most_bytes + (last ? 0 : block_bytes) + written);
      largest = std::max(largest, of_block.most_output_bytes);
      quantizing.Repeat(static_cast<double>(kind.count));
      work.Add(quantizing);
      cost.output_bytes += kind.count * of_block.output_bytes;
    }
    written = std::max(written, largest);
  }
  const int64_t outer_elements = OuterElements(model);
  cost.output_bytes += static_cast<int64_t>(params.outputs.size()) * 2 * outer_elements;
  const double states =
      static_cast<double>(Sum(row_tokens)) * static_cast<double>(config.hidden_size) * 4;
  const double outer = static_cast<double>(StoredBytes(config) * outer_elements);
  cost.read_bytes = blocks_bytes + outer + layers * states;
  cost.write_bytes = static_cast<double>(cost.output_bytes) + (layers + 1) * states;
  work.Write(static_cast<double>(cost.output_bytes));
  cost.stages = work.stages();

  // The block before is written while this one is calibrated, the next is read while this one is
  // quantized.
  cost.memory_bytes =
      ResidentBytes(block_bytes + std::max(calibrating + written, block_bytes + most)) +
      concurrency * kWorkerBytes;
  cost.parallel_share = ParallelShare(config);
  return cost;
}

absl::StatusOr<ModelCost> CostOfEvaluating(const Model& model, absl::Span<const int64_t> row_tokens,
                                           int models, int concurrency) {
  const int decoded = (model.config.quantization.has_value() ? 1 : 0) + std::max(0, models - 2);
  return CostOfEvaluating(model, row_tokens, models - decoded, decoded, concurrency);
}

absl::StatusOr<ModelCost> CostOfEvaluating(const Model& model, absl::Span<const int64_t> row_tokens,
                                           int plain, int decoded, int concurrency) {
  const ModelConfig& config = model.config;
  const double layers = static_cast<double>(config.num_hidden_layers);
  const double hidden = static_cast<double>(config.hidden_size);
  const double vocabulary = static_cast<double>(config.vocab_size);
  const double tokens = static_cast<double>(Sum(row_tokens));
  const int models = plain + decoded;
  WorkCount work(model, model.blocks.front());
  const double stored = static_cast<double>(StoredBytes(config));
  int64_t parameters = 0;  // They are those of the largest block.
  double blocks_bytes = 0;
  for (const BlockKind& kind : KindsOf(model)) {
    const auto count = static_cast<double>(kind.count);
    parameters = std::max(parameters, kind.block->Weights());
    blocks_bytes += count * stored * static_cast<double>(kind.block->Weights());
    for (int i = 0; i < models; ++i) {
      WorkCount block(model, *kind.block);
      block.ReadBlock(i < decoded);
      for (int64_t row : row_tokens) {
        block.Forward(row, ComputeDType::kF32);
        if (i > 0) block.CompareStates(row);
      }
      block.Repeat(count);
      work.Add(block);
    }
  }
  for (int i = 0; i < models; ++i) {
    for (int64_t row : row_tokens) work.Head(row, /*compared=*/i > 0);
  }
  ModelCost cost;
  cost.stages = work.stages();
  const double states = tokens * hidden * 4;
  cost.read_bytes = models * (blocks_bytes + stored * vocabulary * hidden + (layers + 1) * states);
  cost.write_bytes = models * (layers + 1) * states;

  const int64_t longest = Largest(row_tokens);
  const int64_t blocks = (StoredBytes(config) * plain + int64_t{4} * decoded) * parameters;
  const int64_t row = EvaluatedRowBytes(model, longest, concurrency,
                                        EvaluatesSideBySide(model, longest, models, concurrency));
  const int64_t slice = std::min(OutputHead::kSlice, config.vocab_size);
  // Logits of a row, the heads' slices, and what each token's sums so far take.
  const int64_t head = models * (PaddedTokens(longest) * (slice + config.hidden_size) * 4 +
                                 slice * config.hidden_size * 4 + Sum(row_tokens) * 100) +
                       concurrency * int64_t{128} * config.hidden_size * 4;
  // Linears are decoded one a worker; beside the result, as they are stored, as codes.
  int64_t widest = 0;
  size_t linears = 0;
  for (const BlockPlan& block : model.blocks) {
    linears = std::max(linears, block.linears.size());
    for (const LinearPlan& linear : block.linears) {
      if (decoded == 0) break;
      widest = std::max(widest, linear.shape.out_features * linear.shape.in_features);
    }
  }
  const int64_t decoding = std::min<int64_t>(concurrency, static_cast<int64_t>(linears)) *
                           (StoredBytes(config) + 1) * widest;
  // The blocks are gone when the head comes, but their memory is not sure to be.
  cost.memory_bytes =
      ResidentBytes(blocks + std::max(decoding, row + head)) + concurrency * kWorkerBytes;
  cost.parallel_share = ParallelShare(config);
  return cost;
}

Work ModelCost::Total() const {
  Work total;
  for (const Work& work : stages) total += work;
  return total;
}

double SecondsOf(const ModelCost& cost, const MachineSpeed& speed, int workers) {
  const double threads = 1 + cost.parallel_share * (std::max(workers, 1) - 1);
  const auto seconds = [](double amount, double rate) { return rate > 0 ? amount / rate : 0; };
  const Work work = cost.Total();
  return seconds(work.bf16_flop, speed.bf16_flop * threads) +
         seconds(work.f32_flop, speed.f32_flop * threads) +
         seconds(work.vector_flop, speed.vector_flop * threads) +
         seconds(cost.read_bytes + cost.write_bytes, speed.copied_bytes);
}

}  // namespace salient
