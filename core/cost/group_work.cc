// WorkCount's groups of Linears that read the same input: its statistics, the searches for scales
// and ranges, rounding and losses.
#include <algorithm>
#include <cmath>

#include "core/cost/work_count.h"
#include "core/cost/work_operations.h"
#include "core/linalg/cholesky.h"
#include "core/method/coordinate_descent.h"
#include "core/method/method.h"
#include "core/method/range_clip.h"
#include "core/method/scale_candidates.h"
#include "core/method/scale_search.h"
#include "core/method/scale_smoothquant.h"
#include "core/method/shrunk_range.h"
#include "core/model/activations.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/search_loss.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

using namespace operations;

namespace {

// Returns how many scales the search of `method` is offered.
double Candidates(const Method& method) {
  const bool smoothquant = method.scale == ScaleChoice::kSmoothQuant;
  return static_cast<double>(smoothquant ? SmoothQuantCandidates().size()
                                         : AllScaleCandidates(method.autoawq).size());
}

double Square(double x) { return x * x; }

// A piece of the search has so many columns, and one of statistics as many.
constexpr double kPiece = SearchLoss::kPiece;

// Products of n columns with each other where each piece meets itself and those on one side of it,
// in blocks of `width` columns that do not meet.
double Triangles(double n, double width, double piece) {
  double products = 0;
  for (double begin = 0; begin < n; begin += width) {
    const double end = std::min(begin + width, n);
    for (double first = begin; first < end; first += piece) {
      products += std::min(piece, end - first) * (std::min(first + piece, end) - begin);
    }
  }
  return products;
}

}  // namespace

void WorkCount::Fold(int64_t tokens, const StatisticsParams& params, ComputeDType compute) {
  const double padded = static_cast<double>(PaddedTokens(tokens));
  const double in = static_cast<double>(params.in_features);
  const double width = static_cast<double>(std::min(params.block_width, params.in_features));
  const double sketch = params.ExactGram() ? 0 : static_cast<double>(params.sketch_rows);
  // Panels with those after them, and of each panel with itself not quite all.
  double others = 0;
  for (double end = width; params.ExactGram() && end < in; end += width) {
    others += end * std::min(width, in - end);
  }
  const double products = others + Triangles(in, width, kPiece) + sketch * in;
  const double totals = params.ExactGram() ? 0.5 * in * in : 0.5 * in * width + sketch * in;
  Work& work = At(Stage::kStatistics);
  (compute == ComputeDType::kBF16 ? work.bf16_flop : work.f32_flop) += 2 * padded * products;
  work.vector_flop += kAddRounded * totals + kLaySums * padded * in + kSigns * padded * sketch;
  work.vector_flop += 2 * kHandOver;
  // Totals are f64, read and written back.
  work.bytes += (compute == ComputeDType::kBF16 ? 2 : 4) * padded * in + 2 * 8 * totals;
}

void WorkCount::Evaluate(Stage stage, double weights, const StatisticsParams& params) {
  const double in = static_cast<double>(params.in_features);
  Work& work = At(stage);
  if (params.ExactGram()) {
    work.f32_flop += 2 * weights * Triangles(in, in, kExactLossPiece) / in;
    work.vector_flop += (2 * kDot + kAdd) * weights;
    return;
  }
  const double width = static_cast<double>(params.block_width);
  const double sketch = static_cast<double>(params.sketch_rows);
  work.f32_flop += 2 * weights * (width + sketch);
  work.vector_flop += (2 * kDot + kSketchSquares * sketch / width) * weights;
}

void WorkCount::Group(double linears, double weights, const StatisticsParams& params,
                      const Method& method, const StoredFormat& stored_format) {
  const WeightFormat& format = stored_format.format;
  const bool on_sample = stored_format.activations != ActivationFormat::kNone;
  const double in = static_cast<double>(params.in_features);
  const double block = static_cast<double>(std::min(params.block_width, params.in_features));
  const double stored = stored_bytes_ * weights;
  const double codes = weights;  // A code takes a byte until it is packed.
  // The check, the loss of plain round-to-nearest and that of no weight at all.
  Work& loss = At(Stage::kLoss);
  loss.vector_flop += (2 * kWiden + kRound) * weights + kHandOver;
  loss.bytes += stored;
  if (on_sample) {
    MeasureOnSample(Stage::kLoss, 2, weights, params);
  } else {
    Evaluate(Stage::kLoss, weights, params);
    Compare(Stage::kLoss, weights, params);
  }
  // The loss model.
  const double sums = params.ExactGram() ? in * in : in * 2 * block;
  At(Stage::kStatistics).vector_flop += 2 * kAddRounded * sums;
  At(Stage::kStatistics).bytes += (8 + 2 * 4) * sums;
  if (method.scale != ScaleChoice::kNone) Search(weights, params, method, on_sample);
  Work& range = At(Stage::kRange);
  range.vector_flop += (kWiden + kRound) * weights + linears * kHandOver;
  range.bytes += stored;
  if (method.range == RangeChoice::kClip) {
    const double group = static_cast<double>(format.GroupSize(params.in_features));
    const double width = std::min(group, block);
    if (method.autoawq) {
      range.f32_flop += 2 * kShrinkFactorsAutoAwq * weights * width;
      range.vector_flop += kShrinkFactorsAutoAwq * (kRound + kDot) * weights;
    } else {
      range.bf16_flop += 2 * kShrinkFactors * weights * Triangles(width, width, kClipPiece) / width;
      range.vector_flop += kShrinkFactors * (kScaled + kDot) * weights;
    }
  }
  At(Stage::kRounding).bytes += stored + codes;
  At(Stage::kRounding).vector_flop += (kWiden + kRound) * weights + 2 * kHandOver;
  if (method.rounding == RoundingChoice::kBlock) RoundBlock(weights, in, method.block);
  if (method.rounding == RoundingChoice::kGptq) {
    RoundGptq(weights, in, static_cast<double>(format.GroupSize(params.in_features)), method.gptq);
  }
  // The loss of the result, and packing it.
  loss.vector_flop += (kWiden + kDecode) * weights + kHandOver;
  loss.bytes += stored + codes;
  if (on_sample) {
    MeasureOnSample(Stage::kLoss, 1, weights, params);
  } else {
    Evaluate(Stage::kLoss, weights, params);
  }
  At(Stage::kPack).vector_flop += kDecode * weights + linears * kHandOver;
  At(Stage::kPack).bytes += codes + weights * format.bits / 8;
}

void WorkCount::Study(double linears, double weights, const StatisticsParams& params,
                      double choices) {
  const double in = static_cast<double>(params.in_features);
  const double block = static_cast<double>(std::min(params.block_width, params.in_features));
  const double sums = params.ExactGram() ? in * in : in * 2 * block;
  At(Stage::kStatistics).vector_flop += 2 * kAddRounded * sums;
  At(Stage::kStatistics).bytes += (8 + 2 * 4) * sums;
  // The norms of columns; then weights are read, rounded, decoded and subtracted.
  Work& work = At(Stage::kLoss);
  work.vector_flop += (kWiden + kDot) * weights + (linears + 1) * kHandOver;
  work.vector_flop += choices * (kWiden + kRound + kDecode + kAdd) * weights;
  work.bytes += (2 + choices) * stored_bytes_ * weights;
  Evaluate(Stage::kLoss, (1 + choices) * weights, params);
}

void WorkCount::MeasureOnSample(Stage stage, double times, double weights,
                                const StatisticsParams& params) {
  const double tokens = static_cast<double>(params.sample_tokens);
  Work& work = At(stage);
  work.f32_flop += times * 2 * tokens * weights;
  work.vector_flop += times * (2 * (kWiden + kRound) * weights + 2 * kHandOver);
  work.bytes += times * 2 * stored_bytes_ * weights;
}

void WorkCount::Search(double weights, const StatisticsParams& params, const Method& method,
                       bool on_sample) {
  const double in = static_cast<double>(params.in_features);
  Work& search = At(Stage::kScaleSearch);
  search.vector_flop += (2 * kWiden + kRelativeWeight) * weights + 3 * kHandOver;
  search.bytes += 2 * stored_bytes_ * weights;
  const bool smoothquant = method.scale == ScaleChoice::kSmoothQuant;
  if (smoothquant && method.smoothquant.alpha.has_value()) return;
  const double candidates = Candidates(method);
  if (on_sample) {
    return MeasureOnSample(Stage::kScaleSearch, candidates, weights, params);
  }
  if (method.autoawq && !smoothquant) {
    search.vector_flop += kRound * candidates * weights;
    return Evaluate(Stage::kScaleSearch, candidates * weights, params);
  }
  const double rows = weights / in;
  const bool screens = rows > kUnscreenedRows;
  const double stride = std::max(1.0, std::floor(rows / kScreenedRows));
  const double screened = screens ? candidates * weights / stride : 0;
  // Identity is one of the finalists.
  const double evaluated =
      (screens ? static_cast<double>(kScreenFinalists + 1) : candidates) * weights;
  search.vector_flop += kScaled * (screened + evaluated);
  Compare(Stage::kScaleSearch, evaluated, params);
}

void WorkCount::Compare(Stage stage, double weights, const StatisticsParams& params) {
  const double in = static_cast<double>(params.in_features);
  const double width = params.ExactGram() ? in : static_cast<double>(params.block_width);
  const double sketch = params.ExactGram() ? 0 : static_cast<double>(params.sketch_rows);
  Work& work = At(stage);
  work.bf16_flop += 2 * weights * (Triangles(in, width, kPiece) / in + sketch);
  work.vector_flop += (width / kPiece * kDot + kSketchSquares * sketch / width) * weights;
}

void WorkCount::RoundGptq(double weights, double in, double group, const RoundGptqParams& params) {
  const double block = std::min(in, static_cast<double>(kFactorBlock));
  const bool descends = params.descent_sweeps > 0 || params.refits > 0;
  Work& work = At(Stage::kRounding);
  // A, its factor, and in blocks of columns what f32 is not good enough for.
  work.vector_flop += (descends ? 2 : 1) * kGather * Square(in) + kFactor * Square(in) * block / 4;
  work.f32_flop += in * Square(in) / 3;
  work.bytes += (descends ? 4 : 2) * 4 * Square(in);
  // The columns before a block leave errors to it, and those of a block leave them to each other.
  work.f32_flop += weights * (in + 3 * block);
  work.vector_flop += 2 * kAdd * weights + in / block * 2 * kHandOver;
  if (!descends) return;
  // The gradient, sweeps over the codes, and what the codes of each group do to it.
  work.f32_flop += 2 * (1 + params.refits) * in * weights;
  work.vector_flop += params.refits * kAdd * weights * in / group;
  const double sweeps =
      params.refits * params.descent_sweeps + LastSweeps(params.descent_sweeps, params.refits);
  work.vector_flop += (kDescent * sweeps + kChanged * in) * weights;
}

void WorkCount::RoundBlock(double weights, double in, const RoundBlockParams& params) {
  const double width = std::min(static_cast<double>(params.width), in);
  const double sweeps =
      params.refits * params.descent_sweeps + LastSweeps(params.descent_sweeps, params.refits);
  // Error feedback goes over half of the block; then the gradient, and what the codes of each group
  // do to it. What changes later is carried along.
  const double passes = 0.5 + 1 + (params.refits > 0 ? 1 : 0);
  Work& work = At(Stage::kRounding);
  work.f32_flop += 2 * passes * width * weights;
  work.vector_flop += kDescent * sweeps * weights;
  work.vector_flop += in / width * kFactor * 2 * width * Square(width) / 6;
}

}  // namespace salient
