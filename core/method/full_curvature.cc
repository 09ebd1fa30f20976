#include "core/method/full_curvature.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "core/parallel/tiles.h"

namespace salient {

absl::StatusOr<FullCurvature> FullCurvature::Create(const LossModel& model,
                                                    absl::Span<const float> scales) {
  const int64_t n = model.in_features();
  if (!model.exact()) {
    return absl::InvalidArgumentError(
        absl::StrCat("gptq rounding needs the whole X^T X, which statistics of ", n,
                     " columns keep only where exact_gram_limit is at least ", n,
                     "; calibrate with that, or choose block rounding, which does not need it"));
  }
  FullCurvature curvature(model);
  const MatrixView h = model.Centred(0, n);
  double trace = 0;
  for (int64_t j = 0; j < n; ++j) {
    // The model keeps H centred; adding the products of the means gives X^T X / n again.
    const float mean = model.mean().data()[j];
    const float inverse = 1.0f / scales[j];
    curvature.inverse_.push_back(inverse);
    curvature.diagonal_.push_back((h.Row(j)[j] + mean * mean) * (inverse * inverse));
    trace += curvature.diagonal_.back();
  }
  if (trace > 0) curvature.mean_ = trace / static_cast<double>(n);
  return curvature;
}

std::vector<int32_t> FullCurvature::Order(bool falling) const {
  std::vector<int32_t> order(diagonal_.size());
  std::iota(order.begin(), order.end(), 0);
  if (falling) {
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return diagonal_[a] > diagonal_[b]; });
  }
  return order;
}

absl::StatusOr<Matrix> FullCurvature::Damped(absl::Span<const int32_t> order, float damping,
                                             Executor& executor) const {
  const int64_t n = columns();
  Matrix damped = Matrix::Unset(n, n);
  const MatrixView h = model_->Centred(0, n);
  const float* mean = model_->mean().data();
  const RowTiles tiles(n, kRowTile);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    for (int64_t p = tiles.First(tile); p < tiles.First(tile) + tiles.Count(tile); ++p) {
      const int32_t i = order[p];
      const float* from = h.Row(i);
      float* to = damped.Row(p);
      for (int64_t q = 0; q < n; ++q) {
        const int32_t j = order[q];
        // A row is permuted, uncentred and scaled as it is read: no second matrix is made.
        to[q] = (from[j] + mean[i] * mean[j]) * (inverse_[i] * inverse_[j]);
      }
      // A channel that never fired gets the mean as its diagonal, so that the matrix can be
      // factored; its products with all others are 0, so it feeds nothing back.
      const double own = diagonal_[i] > 0 ? diagonal_[i] : mean_;
      to[p] = static_cast<float>(own + damping * mean_);
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return damped;
}

}  // namespace salient
