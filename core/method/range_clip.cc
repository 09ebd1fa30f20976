#include "core/method/range_clip.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/linalg/round_kernels.h"
#include "core/linalg/sum_kernels.h"
#include "core/linalg/tiles.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

constexpr int64_t kTile = 16;  // rows whose candidates share one GEMM
constexpr int kFactors = 20;
constexpr int kAutoAwqFactors = 10;

// One shrunk range of one group.
struct Candidate {
  Affine affine;
  float clamp = 0;  // AutoAWQ only
};

Candidate Shrunk(float lo, float hi, int step, const WeightFormat& format, bool autoawq) {
  if (!autoawq) return {FitAffine(lo, hi, 1.0f - 0.025f * static_cast<float>(step), format), 0};
  const float bound = std::max(-lo, hi) * (1.0f - static_cast<float>(step) / 20.0f);
  return {FitAffineAutoAwq(std::max(lo, -bound), std::min(hi, bound), format), bound};
}

// errors = Q(clamp(w)) - w; clamping changes the codes, the error is against the weight itself.
void ClampedErrors(const float* w, int64_t n, const Candidate& candidate, float* errors) {
  std::vector<float> clamped(w, w + n);
  for (float& value : clamped) value = std::clamp(value, -candidate.clamp, candidate.clamp);
  NearestErrors(clamped.data(), n, candidate.affine, errors);
  for (int64_t k = 0; k < n; ++k) errors[k] += clamped[k] - w[k];
}

// losses[i] = sum over the exact blocks that [begin, begin + size) touches of e_i H e_i^T, for
// errors [count, size] in original units.
absl::Status GroupLosses(const LossModel& model, const Matrix& errors, int64_t begin,
                         Matrix& product, std::vector<double>& losses) {
  std::fill(losses.begin(), losses.end(), 0.0);
  const int64_t end = begin + errors.cols();
  const int64_t width = model.block_width();
  for (int64_t at = begin; at < end;) {
    const int64_t block = at / width;
    const int64_t stop = std::min(end, (block + 1) * width);
    const int64_t n = stop - at;
    const float* h = model.Block(block) + (at % width) * width + at % width;
    const float* part = errors.data() + (at - begin);
    if (absl::Status status = Gemm(Op::kPlain, Op::kPlain, errors.rows(), n, n, part, errors.cols(),
                                   h, width, 0.0f, product.data(), n);
        !status.ok()) {
      return status;
    }
    for (int64_t i = 0; i < errors.rows(); ++i) {
      losses[i] += Dot(part + i * errors.cols(), product.data() + i * n, n);
    }
    at = stop;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Ranges> RangeClip(const WeightView& weight, absl::Span<const float> scales,
                                 const LossModel& model, const WeightFormat& format, bool autoawq,
                                 Executor& executor) {
  const int64_t columns = weight.in_features;
  const int64_t size = format.GroupSize(columns);
  const int factors = autoawq ? kAutoAwqFactors : kFactors;
  Ranges ranges(weight.out_features, columns / size);
  if (autoawq) ranges.clamps.assign(ranges.scales.size(), 0.0f);
  std::vector<float> inverse(scales.begin(), scales.end());
  for (float& value : inverse) value = 1.0f / value;

  const RowTiles tiles(weight.out_features, kTile);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const int64_t count = tiles.Count(tile);
    Matrix rows(count, columns);
    ReadScaledRows(weight, scales, tiles.First(tile), count, rows.data());
    Matrix errors(count * factors, size);
    Matrix product(count * factors, std::min(size, model.block_width()));
    std::vector<double> losses(static_cast<size_t>(errors.rows()));
    std::vector<Candidate> candidates(losses.size());
    for (int64_t g = 0; g < ranges.groups; ++g) {
      for (int64_t i = 0; i < count; ++i) {
        const float* w = rows.Row(i) + g * size;
        const auto [lo, hi] = MinMax(w, size);
        for (int f = 0; f < factors; ++f) {
          Candidate& candidate = candidates[i * factors + f];
          candidate = Shrunk(lo, hi, f, format, autoawq);
          float* error = errors.Row(i * factors + f);
          if (autoawq) {
            ClampedErrors(w, size, candidate, error);
          } else {
            NearestErrors(w, size, candidate.affine, error);
          }
          Multiply(error, inverse.data() + g * size, size, error);
        }
      }
      if (absl::Status s = GroupLosses(model, errors, g * size, product, losses); !s.ok()) return s;
      for (int64_t i = 0; i < count; ++i) {
        const auto first = losses.begin() + i * factors;
        const int64_t best = std::min_element(first, first + factors) - first;
        const Candidate& chosen = candidates[i * factors + best];
        const int64_t row = tiles.First(tile) + i;
        ranges.Set(row, g, chosen.affine);
        ranges.narrowed[row * ranges.groups + g] = best > 0 ? 1 : 0;
        if (autoawq) ranges.clamps[row * ranges.groups + g] = chosen.clamp;
      }
    }
    return absl::OkStatus();
  });
  if (status.ok()) status = CheckScales(ranges, format);
  if (!status.ok()) return status;
  return ranges;
}

}  // namespace salient
