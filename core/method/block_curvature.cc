#include "core/method/block_curvature.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/linalg/cholesky.h"
#include "core/method/damping.h"

namespace salient {
namespace {

// Less is lost in the rounding of f32.
constexpr double kLeastDamping = 1e-6;

// Factors the inverse of the block's h, permuted and damped by that share of its mean diagonal.
absl::StatusOr<std::vector<double>> FactorOf(const BlockCurvature& block, double mean,
                                             float damping) {
  const int64_t n = block.columns();
  std::vector<double> damped(static_cast<size_t>(n * n));
  for (int64_t p = 0; p < n; ++p) {
    const float* row = block.h.Row(block.order[p]);
    for (int64_t q = 0; q < n; ++q) damped[p * n + q] = row[block.order[q]];
    damped[p * n + p] += std::max<double>(damping, kLeastDamping) * mean;
  }
  return InverseUpperCholesky(damped, n);
}

absl::Status Shrink(const LossModel& model, absl::Span<const float> scales,
                    const RoundBlockParams& params, BlockCurvature& block) {
  const int64_t n = block.columns();
  const int64_t width = model.block_width();
  const int64_t offset = block.first % width;
  const float* source = model.Block(block.first / width);
  std::vector<float> inverse(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) inverse[i] = 1.0f / scales[block.first + i];
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float* from = source + (offset + i) * width + offset;
    float* to = block.h.Row(i);
    // Weights are scaled by s, so inputs are divided by it: h_ij / (s_i s_j). Shrinking spares the
    // diagonal: it is what ties columns to each other that is over-fitted to the calibration text.
    const float factor = inverse[i] * params.shrinkage;
    for (int64_t j = 0; j < n; ++j) to[j] = from[j] * (factor * inverse[j]);
    to[i] = from[i] * (inverse[i] * inverse[i]);
    block.diagonal.push_back(to[i]);
    trace += to[i];
  }
  block.order.resize(static_cast<size_t>(n));
  std::iota(block.order.begin(), block.order.end(), 0);
  std::stable_sort(block.order.begin(), block.order.end(),
                   [&](int32_t a, int32_t b) { return block.diagonal[a] > block.diagonal[b]; });

  // A block whose channels never fired has nothing to feed back: any positive diagonal does.
  const double mean = trace > 0 ? trace / static_cast<double>(n) : 1.0;
  absl::StatusOr<std::vector<double>> upper = FactorOf(block, mean, params.damping);
  for (std::optional<float> damping = RaisedDamping(params.damping); !upper.ok() && damping;
       damping = RaisedDamping(*damping)) {
    upper = FactorOf(block, mean, *damping);
  }
  if (!upper.ok()) {
    return absl::InternalError(absl::StrCat("columns ", block.first, " to ", block.first + n, ": ",
                                            upper.status().message()));
  }
  std::transform(upper->begin(), upper->end(), block.upper.data(),
                 [](double value) { return static_cast<float>(value); });
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<BlockCurvature>> ShrinkBlocks(const LossModel& model,
                                                         absl::Span<const float> scales,
                                                         const RoundBlockParams& params,
                                                         Executor& executor) {
  std::vector<BlockCurvature> blocks;
  for (int64_t first = 0; first < model.in_features(); first += params.width) {
    const int64_t n = std::min(params.width, model.in_features() - first);
    blocks.push_back({first, Matrix(n, n), {}, {}, Matrix(n, n)});
  }
  absl::Status status = executor.ForEach(static_cast<int64_t>(blocks.size()), [&](int64_t b) {
    return Shrink(model, scales, params, blocks[b]);
  });
  if (!status.ok()) return status;
  return blocks;
}

}  // namespace salient
