#include "core/model_cost.h"

#include <algorithm>

#include "core/model/ends.h"
#include "core/model/family.h"
#include "core/model/forward.h"
#include "core/quantizable_groups.h"
#include "core/statistics/accumulator.h"

namespace salient {
namespace {

constexpr double kSearchCandidates = 41;
constexpr double kSearchCandidatesAutoAwq = 20;
constexpr double kClipFactors = 20;
constexpr double kClipFactorsAutoAwq = 10;

// Operations of SpeedProbe::Vector an element. They were measured against it.
constexpr double kWiden = 8;         // 16 bits to f32
constexpr double kRoundToBf16 = 12;  // f32 to bf16 and back
constexpr double kSoftmax = 28;      // an exponential, the largest, the sum
constexpr double kSilu = 21;
constexpr double kNorm = 10;  // its sum of squares is one chain of f64 additions
constexpr double kRotate = 4;
constexpr double kAdd = 1;         // a pass over f32 in memory
constexpr double kAddRounded = 7;  // a statistic's f64 total
constexpr double kColumnSums = 4;  // sum, sum |x|, max |x|
constexpr double kRound = 3;       // scale, range, code, error
constexpr double kDot = 0.6;
constexpr double kSketchSquares = 4;  // (sum D S)^2 and its parts, in f64
constexpr double kDecode = 6;         // codes to errors in LossOf, packing
constexpr double kRelativeWeight = 8;
constexpr double kDescent = 5;       // of a weight in one sweep, most of which change nothing
constexpr double kFactor = 6.5;      // of n^3 / 6 of a factorization in f64
constexpr double kHandOver = 60000;  // giving tasks to the workers once and waiting for them
constexpr double kExponential = 30;  // in f64, of a logit
constexpr double kReadDecoded = 40;  // a weight rounded or unpacked as it is read, and checked

// What the allocator keeps of memory that was freed between pieces still in use, and what generated
// code and a worker's own heap take. Measured with glibc.
constexpr double kKeptByAllocator = 1.15;
constexpr int64_t kRuntimeBytes = 3 << 20;
constexpr int64_t kWorkerBytes = 4 << 20;

int64_t ResidentBytes(int64_t held) {
  return static_cast<int64_t>(kKeptByAllocator * static_cast<double>(held)) + kRuntimeBytes;
}

double Square(double x) { return x * x; }

class CostSum {
 public:
  CostSum(const Family& family, const ModelConfig& config) : family_(family), config_(config) {}

  // One block's forward pass on a row.
  void Forward(int64_t tokens, ComputeDType compute) {
    const double padded = static_cast<double>(PaddedTokens(tokens));
    const double hidden = static_cast<double>(config_.hidden_size);
    const double inner = static_cast<double>(config_.intermediate_size);
    const double query = static_cast<double>(config_.num_attention_heads * config_.head_dim);
    const double key = static_cast<double>(config_.num_key_value_heads * config_.head_dim);
    for (size_t i = 0; i < kLinearRoles; ++i) {
      const LinearShape shape = ShapeOf(family_, config_, static_cast<LinearRole>(i));
      Product(padded, static_cast<double>(shape.out_features),
              static_cast<double>(shape.in_features), compute);
    }
    // Scores and context of one head and 64 queries at a time, over the keys they see.
    const double tile = static_cast<double>(kTokenTile);
    double scores = 0;
    for (double end = tile; end <= padded; end += tile) scores += tile * end;
    cost.gemm_flop += 4 * scores * query;
    const double heads = static_cast<double>(config_.num_attention_heads);
    cost.vector_flop += kSoftmax * 0.5 * heads * Square(padded) + kAdd * heads * scores +
                        2 * kNorm * padded * hidden + kRotate * padded * (query + key) +
                        kSilu * padded * inner + 2 * kAdd * padded * hidden;
    cost.vector_flop += 8 * kHandOver;
  }

  // input [tokens, in] times a stored weight [out, in].
  void Product(double tokens, double out, double in, ComputeDType compute) {
    cost.gemm_flop += 2 * tokens * out * in;
    cost.vector_flop += (kWiden + kAdd) * out * in + kAdd * tokens * out + kHandOver;
    if (compute == ComputeDType::kBF16) {
      cost.vector_flop += kRoundToBf16 * (out * in + tokens * in) + 2 * kAdd * tokens * in;
    }
  }

  // A row of a group's input into its statistics.
  void Fold(int64_t tokens, const StatisticsParams& params) {
    const double padded = static_cast<double>(PaddedTokens(tokens));
    const double in = static_cast<double>(params.in_features);
    const double width = static_cast<double>(std::min(params.block_width, params.in_features));
    const double sketch = static_cast<double>(params.sketch_rows);
    // Pairs of panels on or above the diagonal, or the diagonal alone.
    const double products = params.ExactGram() ? 0.5 * in * (in + width) : in * width;
    const double totals = params.ExactGram() ? 0.5 * in * in : 0.5 * in * width + sketch * in;
    cost.gemm_flop += 2 * padded * products;
    if (!params.ExactGram()) cost.gemm_flop += 2 * padded * sketch * in;
    cost.vector_flop +=
        kAddRounded * totals + (kColumnSums + 2 * kAdd) * static_cast<double>(tokens) * in;
    if (!params.ExactGram()) cost.vector_flop += kAdd * padded * sketch;
    cost.vector_flop += 2 * kHandOver;
  }

  // LossModel::Evaluate of errors of `weights` elements.
  void Evaluate(double weights, const StatisticsParams& params) {
    const double in = static_cast<double>(params.in_features);
    if (params.ExactGram()) {
      cost.gemm_flop += 2 * weights * in;
      cost.vector_flop += (2 * kDot + kAdd) * weights;
      return;
    }
    const double width = static_cast<double>(params.block_width);
    const double sketch = static_cast<double>(params.sketch_rows);
    cost.gemm_flop += 2 * weights * (width + sketch);
    cost.vector_flop += (2 * kDot + kSketchSquares * sketch / width) * weights;
  }

  // QuantizeGroup of Linears with `weights` elements in all.
  void Group(double linears, double weights, const StatisticsParams& params, const Method& method,
             const WeightFormat& format) {
    const double in = static_cast<double>(params.in_features);
    const double group = static_cast<double>(format.GroupSize(params.in_features));
    const double block = static_cast<double>(std::min(params.block_width, params.in_features));
    // The check, and plain round-to-nearest, its loss and the loss of no weight at all.
    cost.vector_flop += (5 * kWiden + 2 * kRound + kDecode) * weights;
    Evaluate(2 * weights, params);
    cost.vector_flop += 6 * linears * kHandOver;
    // The loss model.
    cost.vector_flop += 2 * kAddRounded * (params.ExactGram() ? in * in : in * 2 * block);
    if (method.scale == ScaleChoice::kAwq) {
      const double candidates = method.autoawq ? kSearchCandidatesAutoAwq : kSearchCandidates;
      cost.vector_flop += (2 * kWiden + kRelativeWeight + kRound * candidates) * weights;
      Evaluate(candidates * weights, params);
    }
    cost.vector_flop += (kWiden + kRound) * weights;
    if (method.range == RangeChoice::kClip) {
      const double factors = method.autoawq ? kClipFactorsAutoAwq : kClipFactors;
      cost.gemm_flop += 2 * factors * weights * std::min(group, block);
      cost.vector_flop += factors * (kRound + kDot) * weights;
    }
    if (method.rounding == RoundingChoice::kBlock) {
      RoundBlock(linears, weights, in, method.block);
    }
    // The loss of the result, and packing it.
    cost.vector_flop += (2 * kWiden + kRound + 2 * kDecode) * weights;
    Evaluate(weights, params);
    cost.vector_flop += 4 * linears * kHandOver;
  }

  ModelCost cost;

 private:
  void RoundBlock(double linears, double weights, double in, const RoundBlockParams& params) {
    const double width = std::min(static_cast<double>(params.width), in);
    const double sweeps = params.refits * params.descent_sweeps + 1;
    // Error feedback goes over half of the block; the gradient is computed anew before, after and
    // three times in each refit.
    const double passes = 0.5 + 2 + 3.5 * params.refits;
    cost.gemm_flop += 2 * passes * width * weights;
    cost.vector_flop += kDescent * sweeps * weights;
    cost.vector_flop += linears * in / width * kFactor * 2 * width * Square(width) / 6;
  }

  const Family& family_;
  const ModelConfig& config_;
};

StatisticsParams StatisticsOf(const Family& family, const ModelConfig& config,
                              const GroupRow& row) {
  StatisticsParams params;
  params.in_features = ShapeOf(family, config, row.linears[0]).in_features;
  return params;
}

int64_t OutFeatures(const Family& family, const ModelConfig& config, const GroupRow& row) {
  int64_t out = 0;
  for (LinearRole role : row.linears) out += ShapeOf(family, config, role).out_features;
  return out;
}

int64_t BlockParameters(const Family& family, const ModelConfig& config) {
  int64_t parameters = 0;
  for (const GroupRow& row : family.groups) {
    parameters += OutFeatures(family, config, row) * StatisticsOf(family, config, row).in_features;
  }
  return parameters;
}

// Bytes of a weight in the model. What the config does not say is 16 bits wide.
int64_t StoredBytes(const ModelConfig& config) {
  return config.dtype.has_value() ? SizeOf(*config.dtype) : 2;
}

int64_t Elements(const TensorSpec& spec) {
  int64_t elements = 1;
  for (int64_t dimension : spec.shape) elements *= dimension;
  return elements;
}

int64_t OuterElements(const Family& family, const ModelConfig& config) {
  int64_t elements = 0;
  for (const TensorSpec& spec : OuterTensors(family, config)) elements += Elements(spec);
  return elements;
}

// Bytes of a group's Linears as they are written.
int64_t PackedBytes(int64_t out_features, int64_t in_features, const WeightFormat& format,
                    OutputFormat output, bool fits) {
  if (!fits || output == OutputFormat::kDequantizedFp16) return 2 * out_features * in_features;
  const int64_t groups = in_features / format.GroupSize(in_features);
  return out_features * in_features / 2 + groups * out_features / 2 + groups * out_features * 2;
}

int64_t StatisticsBytes(const StatisticsParams& params) {
  const int64_t in = params.in_features;
  const int64_t sums =
      params.ExactGram()
          ? in * in
          : params.Blocks() * params.block_width * params.block_width + params.sketch_rows * in;
  return sums * 8 + in * 20 + params.sample_tokens * in * 4;
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

absl::StatusOr<ModelCost> CostOfQuantizing(const ModelConfig& config,
                                           absl::Span<const int64_t> row_tokens,
                                           const QuantizeModelParams& params, int concurrency) {
  const absl::StatusOr<const Family*> found = FindFamily(config);
  if (!found.ok()) return found.status();
  const Family& family = **found;
  const auto fits = QuantizableGroups(family, config, params.format, params.output, params.strict);
  if (!fits.ok()) return fits.status();
  CostSum sum(family, config);
  ModelCost& cost = sum.cost;

  int64_t block_output = 0;
  for (const TensorSpec& spec : BlockTensors(family, config, 0)) {
    if (spec.shape.size() == 1) block_output += 2 * Elements(spec);
  }
  int64_t statistics_bytes = 0;
  int64_t accumulator_bytes = 0;
  for (int64_t tokens : row_tokens) sum.Forward(tokens, params.compute);
  for (const GroupRow& row : family.groups) {
    const StatisticsParams statistics = StatisticsOf(family, config, row);
    const int64_t out = OutFeatures(family, config, row);
    const bool fit = (*fits)[static_cast<size_t>(row.role)].fits;
    for (int64_t tokens : row_tokens) sum.Fold(tokens, statistics);
    if (fit) {
      sum.Group(static_cast<double>(row.linears.size()),
                static_cast<double>(out * statistics.in_features), statistics, params.method,
                params.format);
    }
    block_output += PackedBytes(out, statistics.in_features, params.format, params.output, fit);
    statistics_bytes += StatisticsBytes(statistics);
    accumulator_bytes += StatisticsAccumulator::MemoryBytes(statistics);
  }
  const int64_t parameters = BlockParameters(family, config);
  const int64_t block_bytes = StoredBytes(config) * parameters;
  cost.vector_flop += kWiden * static_cast<double>(parameters);

  // Up to here it was one block.
  const double layers = static_cast<double>(config.num_hidden_layers);
  cost.gemm_flop *= layers;
  cost.vector_flop *= layers;
  const double states =
      static_cast<double>(Sum(row_tokens)) * static_cast<double>(config.hidden_size) * 4;
  const double outer = static_cast<double>(StoredBytes(config) * OuterElements(family, config));
  cost.output_bytes = config.num_hidden_layers * block_output + 2 * OuterElements(family, config);
  cost.read_bytes = layers * static_cast<double>(block_bytes) + outer + layers * states;
  cost.write_bytes = static_cast<double>(cost.output_bytes) + (layers + 1) * states;

  // Calibrating holds accumulators and a row; quantizing holds statistics, what the groups before
  // left and one group's own.
  const int64_t row_bytes = BlockForward::MemoryBytes(config, Largest(row_tokens), concurrency);
  int64_t most = accumulator_bytes + row_bytes;
  int64_t held = statistics_bytes;
  for (const bool into_linear : {true, false}) {
    for (const GroupRow& row : family.groups) {
      if (row.fold_into_linear.has_value() != into_linear) continue;
      const StatisticsParams statistics = StatisticsOf(family, config, row);
      const int64_t out = OutFeatures(family, config, row);
      const bool fit = (*fits)[static_cast<size_t>(row.role)].fits;
      if (fit) {
        most = std::max(most,
                        held + QuantizeGroupMemoryBytes(out, statistics.in_features, concurrency));
      }
      held += PackedBytes(out, statistics.in_features, params.format, params.output, fit);
      if (fit) held -= StatisticsBytes(statistics);
      // What takes the fold becomes F32.
      if (fit && into_linear) {
        const LinearShape shape = ShapeOf(family, config, *row.fold_into_linear);
        held += (4 - StoredBytes(config)) * shape.out_features * shape.in_features;
      }
      most = std::max(most, held);
    }
  }
  cost.memory_bytes = ResidentBytes(block_bytes + most);
  return cost;
}

absl::StatusOr<ModelCost> CostOfEvaluating(const ModelConfig& config,
                                           absl::Span<const int64_t> row_tokens, int models,
                                           int concurrency) {
  const absl::StatusOr<const Family*> found = FindFamily(config);
  if (!found.ok()) return found.status();
  const Family& family = **found;
  CostSum sum(family, config);
  ModelCost& cost = sum.cost;
  const double layers = static_cast<double>(config.num_hidden_layers);
  const double hidden = static_cast<double>(config.hidden_size);
  const double vocabulary = static_cast<double>(config.vocab_size);
  const double parameters = static_cast<double>(BlockParameters(family, config));
  const int64_t decoded = (config.quantization.has_value() ? 1 : 0) + std::max(0, models - 2);
  const int64_t plain = models - decoded;
  const double compared = models - 1;
  for (int64_t tokens : row_tokens) sum.Forward(tokens, ComputeDType::kF32);
  cost.vector_flop += kWiden * parameters;
  cost.gemm_flop *= layers;
  cost.vector_flop *= layers;
  for (int64_t tokens : row_tokens) {
    const double padded = static_cast<double>(PaddedTokens(tokens));
    sum.Product(padded, vocabulary, hidden, ComputeDType::kF32);
    cost.vector_flop += kExponential * static_cast<double>(tokens) * vocabulary;
    cost.vector_flop += kNorm * padded * hidden + kHandOver;
  }
  cost.gemm_flop *= models;
  cost.vector_flop *= models;
  const double tokens = static_cast<double>(Sum(row_tokens));
  cost.vector_flop +=
      layers * kReadDecoded * static_cast<double>(decoded) * parameters +
      compared * (layers * 4 * kAdd * tokens * hidden + 2 * kExponential * tokens * vocabulary);
  const double rows = static_cast<double>(row_tokens.size());
  const double states = tokens * hidden * 4;
  // The head is read anew for each row.
  const double stored = static_cast<double>(StoredBytes(config));
  cost.read_bytes = models * (layers * stored * parameters + rows * stored * vocabulary * hidden +
                              (layers + 1) * states);
  cost.write_bytes = models * (layers + 1) * states;

  const int64_t longest = Largest(row_tokens);
  const int64_t blocks =
      (StoredBytes(config) * plain + 4 * decoded) * BlockParameters(family, config);
  const int64_t row =
      BlockForward::MemoryBytes(config, longest, concurrency) + longest * config.hidden_size * 4;
  const int64_t slice = std::min(OutputHead::kSlice, config.vocab_size);
  const int64_t head = models * PaddedTokens(longest) * (slice + config.hidden_size) * 4 +
                       concurrency * 128 * config.hidden_size * 6;
  // Linears are decoded one a worker; beside the result, as they are stored, as codes.
  int64_t widest = 0;
  for (size_t i = 0; decoded > 0 && i < kLinearRoles; ++i) {
    const LinearShape shape = ShapeOf(family, config, static_cast<LinearRole>(i));
    widest = std::max(widest, shape.out_features * shape.in_features);
  }
  const int64_t decoding = std::min<int64_t>(concurrency, kLinearRoles) * 3 * widest;
  // The blocks are gone when the head comes, but their memory is not sure to be.
  cost.memory_bytes =
      ResidentBytes(blocks + std::max(decoding, row + head)) + concurrency * kWorkerBytes;
  return cost;
}

double SecondsOf(const ModelCost& cost, const MachineSpeed& speed, int workers) {
  const double threads = std::max(workers, 1);
  const auto seconds = [](double amount, double rate) { return rate > 0 ? amount / rate : 0; };
  return seconds(cost.gemm_flop, speed.gemm_flop * threads) +
         seconds(cost.vector_flop, speed.vector_flop * threads) +
         seconds(cost.read_bytes + cost.write_bytes, speed.copied_bytes);
}

}  // namespace salient
