#include "core/work_count.h"

#include <algorithm>

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

double Square(double x) { return x * x; }

}  // namespace

WorkCount::WorkCount(const Family& family, const ModelConfig& config)
    : family_(family), config_(config) {
  for (size_t i = 0; i < kLinearRoles; ++i) {
    const LinearShape shape = ShapeOf(family, config, static_cast<LinearRole>(i));
    block_parameters_ += shape.out_features * shape.in_features;
  }
}

void WorkCount::Repeat(double times) {
  gemm_flop_ *= times;
  vector_flop_ *= times;
}

void WorkCount::Add(const WorkCount& other) {
  gemm_flop_ += other.gemm_flop_;
  vector_flop_ += other.vector_flop_;
}

void WorkCount::ReadBlock(bool decoded) {
  vector_flop_ += (decoded ? kReadDecoded : kWiden) * static_cast<double>(block_parameters_);
}

void WorkCount::CompareStates(int64_t tokens) {
  vector_flop_ += 4 * kAdd * static_cast<double>(tokens * config_.hidden_size);
}

void WorkCount::Head(int64_t tokens, bool compared) {
  const double padded = static_cast<double>(PaddedTokens(tokens));
  const double hidden = static_cast<double>(config_.hidden_size);
  const double vocabulary = static_cast<double>(config_.vocab_size);
  Product(padded, vocabulary, hidden, ComputeDType::kF32);
  // One of the likelihood, two of the divergence.
  vector_flop_ += (compared ? 3 : 1) * kExponential * static_cast<double>(tokens) * vocabulary +
                  kNorm * padded * hidden + kHandOver;
}

// One block's forward pass on a row.
void WorkCount::Forward(int64_t tokens, ComputeDType compute) {
  const double padded = static_cast<double>(PaddedTokens(tokens));
  const double hidden = static_cast<double>(config_.hidden_size);
  const double inner = static_cast<double>(config_.intermediate_size);
  const double query = static_cast<double>(config_.num_attention_heads * config_.head_dim);
  const double key = static_cast<double>(config_.num_key_value_heads * config_.head_dim);
  for (size_t i = 0; i < kLinearRoles; ++i) {
    const LinearShape shape = ShapeOf(family_, config_, static_cast<LinearRole>(i));
    Product(padded, static_cast<double>(shape.out_features), static_cast<double>(shape.in_features),
            compute);
  }
  // Scores and context of one head and 64 queries at a time, over the keys they see.
  const double tile = static_cast<double>(kTokenTile);
  double scores = 0;
  for (double end = tile; end <= padded; end += tile) scores += tile * end;
  gemm_flop_ += 4 * scores * query;
  const double heads = static_cast<double>(config_.num_attention_heads);
  vector_flop_ += kSoftmax * 0.5 * heads * Square(padded) + kAdd * heads * scores +
                  2 * kNorm * padded * hidden + kRotate * padded * (query + key) +
                  kSilu * padded * inner + 2 * kAdd * padded * hidden;
  vector_flop_ += 8 * kHandOver;
}

// input [tokens, in] times a stored weight [out, in].
void WorkCount::Product(double tokens, double out, double in, ComputeDType compute) {
  gemm_flop_ += 2 * tokens * out * in;
  vector_flop_ += (kWiden + kAdd) * out * in + kAdd * tokens * out + kHandOver;
  if (compute == ComputeDType::kBF16) {
    vector_flop_ += kRoundToBf16 * (out * in + tokens * in) + 2 * kAdd * tokens * in;
  }
}

// A row of a group's input into its statistics.
void WorkCount::Fold(int64_t tokens, const StatisticsParams& params) {
  const double padded = static_cast<double>(PaddedTokens(tokens));
  const double in = static_cast<double>(params.in_features);
  const double width = static_cast<double>(std::min(params.block_width, params.in_features));
  const double sketch = static_cast<double>(params.sketch_rows);
  // Pairs of panels on or above the diagonal, or the diagonal alone.
  const double products = params.ExactGram() ? 0.5 * in * (in + width) : in * width;
  const double totals = params.ExactGram() ? 0.5 * in * in : 0.5 * in * width + sketch * in;
  gemm_flop_ += 2 * padded * products;
  if (!params.ExactGram()) gemm_flop_ += 2 * padded * sketch * in;
  vector_flop_ +=
      kAddRounded * totals + (kColumnSums + 2 * kAdd) * static_cast<double>(tokens) * in;
  if (!params.ExactGram()) vector_flop_ += kAdd * padded * sketch;
  vector_flop_ += 2 * kHandOver;
}

// LossModel::Evaluate of errors of `weights` elements.
void WorkCount::Evaluate(double weights, const StatisticsParams& params) {
  const double in = static_cast<double>(params.in_features);
  if (params.ExactGram()) {
    gemm_flop_ += 2 * weights * in;
    vector_flop_ += (2 * kDot + kAdd) * weights;
    return;
  }
  const double width = static_cast<double>(params.block_width);
  const double sketch = static_cast<double>(params.sketch_rows);
  gemm_flop_ += 2 * weights * (width + sketch);
  vector_flop_ += (2 * kDot + kSketchSquares * sketch / width) * weights;
}

// QuantizeGroup of Linears with `weights` elements in all.
void WorkCount::Group(double linears, double weights, const StatisticsParams& params,
                      const Method& method, const WeightFormat& format) {
  const double in = static_cast<double>(params.in_features);
  const double group = static_cast<double>(format.GroupSize(params.in_features));
  const double block = static_cast<double>(std::min(params.block_width, params.in_features));
  // The check, and plain round-to-nearest, its loss and the loss of no weight at all.
  vector_flop_ += (5 * kWiden + 2 * kRound + kDecode) * weights;
  Evaluate(2 * weights, params);
  vector_flop_ += 6 * linears * kHandOver;
  // The loss model.
  vector_flop_ += 2 * kAddRounded * (params.ExactGram() ? in * in : in * 2 * block);
  if (method.scale == ScaleChoice::kAwq) {
    const double candidates = method.autoawq ? kSearchCandidatesAutoAwq : kSearchCandidates;
    vector_flop_ += (2 * kWiden + kRelativeWeight + kRound * candidates) * weights;
    Evaluate(candidates * weights, params);
  }
  vector_flop_ += (kWiden + kRound) * weights;
  if (method.range == RangeChoice::kClip) {
    const double factors = method.autoawq ? kClipFactorsAutoAwq : kClipFactors;
    gemm_flop_ += 2 * factors * weights * std::min(group, block);
    vector_flop_ += factors * (kRound + kDot) * weights;
  }
  if (method.rounding == RoundingChoice::kBlock) {
    RoundBlock(linears, weights, in, method.block);
  }
  // The loss of the result, and packing it.
  vector_flop_ += (2 * kWiden + kRound + 2 * kDecode) * weights;
  Evaluate(weights, params);
  vector_flop_ += 4 * linears * kHandOver;
}

void WorkCount::RoundBlock(double linears, double weights, double in,
                           const RoundBlockParams& params) {
  const double width = std::min(static_cast<double>(params.width), in);
  const double sweeps = params.refits * params.descent_sweeps + 1;
  // Error feedback goes over half of the block; the gradient is computed anew before, after and
  // three times in each refit.
  const double passes = 0.5 + 2 + 3.5 * params.refits;
  gemm_flop_ += 2 * passes * width * weights;
  vector_flop_ += kDescent * sweeps * weights;
  vector_flop_ += linears * in / width * kFactor * 2 * width * Square(width) / 6;
}

}  // namespace salient
