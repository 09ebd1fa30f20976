#include "core/cost/model_cost.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/cost/block_cost.h"
#include "core/evaluate/evaluate_model.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/model.h"
#include "core/quantize/calibrate_block.h"
#include "core/result/shared_results.h"

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

}  // namespace

absl::StatusOr<ModelCost> CostOfQuantizing(const Model& model, absl::Span<const int64_t> row_tokens,
                                           const QuantizeModelParams& params, int concurrency) {
  const ModelConfig& config = model.config;
  const auto results = ShareResults(model, params.outputs, params.strict, params.overrides,
                                    params.max_relative_error != 0);
  if (!results.ok()) return results.status();
  ModelCost cost;
  const double layers = static_cast<double>(config.num_hidden_layers);
  WorkCount work(model);
  work.ReadBlock(/*decoded=*/false);
  for (int64_t tokens : row_tokens) work.Forward(tokens, params.compute);
  const BlockPlan& plan = model.blocks.front();
  for (const GroupPlan& group : plan.groups) {
    const StatisticsParams statistics = StatisticsOf(plan, group, params.method);
    if (NeedsWholeGram(params.method) && statistics.in_features > kMostWholeGram) {
      return absl::InvalidArgumentError(
          absl::StrCat(group.path, ": in_features is ", statistics.in_features,
                       "; expected at most ", kMostWholeGram,
                       " with gptq rounding, which keeps the whole X^T X; block rounding has no "
                       "such limit"));
    }
    for (int64_t tokens : row_tokens) work.Fold(tokens, statistics, params.compute);
  }
  work.Repeat(layers);

  const int64_t block_bytes = StoredBytes(config) * work.block_parameters();
  int64_t written = 0;  // Its thread writes a block while others compute.
  int64_t most = 0;
  for (const SharedResult& result : *results) {
    const bool last = &result == &results->back();
    // All blocks are alike where there are no overrides.
    const size_t blocks = params.overrides.empty() ? 1 : result.fits.size();
    WorkCount quantizing(model);
    int64_t output_bytes = 0;
    int64_t largest = 0;
    for (size_t block = 0; block < blocks; ++block) {
      const BlockCost of_block = CostOfBlock(plan, StoredBytes(config), params, result,
                                             result.fits[block], last, concurrency, quantizing);
      output_bytes += of_block.output_bytes;
      // The weights are copied for all results but the last, and the result before is written.
      most = std::max(most, of_block.most_bytes + (last ? 0 : block_bytes) + written);
      largest = std::max(largest, of_block.most_output_bytes);
    }
    written = std::max(written, largest);
    const int64_t times = config.num_hidden_layers / static_cast<int64_t>(blocks);
    quantizing.Repeat(static_cast<double>(times));
    work.Add(quantizing);
    cost.output_bytes += times * output_bytes;
  }
  const int64_t outer_elements = OuterElements(model);
  cost.output_bytes += static_cast<int64_t>(params.outputs.size()) * 2 * outer_elements;
  const double states =
      static_cast<double>(Sum(row_tokens)) * static_cast<double>(config.hidden_size) * 4;
  const double outer = static_cast<double>(StoredBytes(config) * outer_elements);
  cost.read_bytes = layers * static_cast<double>(block_bytes) + outer + layers * states;
  cost.write_bytes = static_cast<double>(cost.output_bytes) + (layers + 1) * states;
  work.Write(static_cast<double>(cost.output_bytes));
  cost.stages = work.stages();

  const int64_t calibrating = CalibrateBlockMemoryBytes(plan, params.compute, Largest(row_tokens),
                                                        NeedsWholeGram(params.method), concurrency);
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
  WorkCount work(model);
  const double parameters = static_cast<double>(work.block_parameters());
  for (int i = 0; i < models; ++i) {
    WorkCount block(model);
    block.ReadBlock(i < decoded);
    for (int64_t row : row_tokens) {
      block.Forward(row, ComputeDType::kF32);
      if (i > 0) block.CompareStates(row);
    }
    block.Repeat(layers);
    work.Add(block);
    for (int64_t row : row_tokens) work.Head(row, /*compared=*/i > 0);
  }
  ModelCost cost;
  cost.stages = work.stages();
  const double states = tokens * hidden * 4;
  const double stored = static_cast<double>(StoredBytes(config));
  cost.read_bytes = models * (layers * stored * parameters + stored * vocabulary * hidden +
                              (layers + 1) * states);
  cost.write_bytes = models * (layers + 1) * states;

  const int64_t longest = Largest(row_tokens);
  const int64_t blocks =
      (StoredBytes(config) * plain + int64_t{4} * decoded) * work.block_parameters();
  const int64_t row = EvaluatedRowBytes(model, longest, concurrency,
                                        EvaluatesSideBySide(model, longest, models, concurrency));
  const int64_t slice = std::min(OutputHead::kSlice, config.vocab_size);
  // Logits of a row, the heads' slices, and what each token's sums so far take.
  const int64_t head = models * (PaddedTokens(longest) * (slice + config.hidden_size) * 4 +
                                 slice * config.hidden_size * 4 + Sum(row_tokens) * 100) +
                       concurrency * int64_t{128} * config.hidden_size * 4;
  // Linears are decoded one a worker; beside the result, as they are stored, as codes.
  int64_t widest = 0;
  const std::vector<LinearPlan>& linears = model.blocks.front().linears;
  for (const LinearPlan& linear : linears) {
    if (decoded == 0) break;
    widest = std::max(widest, linear.shape.out_features * linear.shape.in_features);
  }
  const int64_t decoding = std::min<int64_t>(concurrency, static_cast<int64_t>(linears.size())) *
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
