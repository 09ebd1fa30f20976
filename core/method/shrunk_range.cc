#include "core/method/shrunk_range.h"

#include <algorithm>

namespace salient {

ShrunkRange Shrunk(float lo, float hi, int step, const WeightFormat& format, bool autoawq) {
  if (!autoawq) return {FitAffine(lo, hi, ShrinkFactor(step), format), 0};
  const float bound = std::max(-lo, hi) * (1.0f - static_cast<float>(step) / 20.0f);
  return {FitAffineAutoAwq(std::max(lo, -bound), std::min(hi, bound), format), bound};
}

absl::StatusOr<WholeRange> WholeRangeOf(const WeightView& weight, absl::Span<const float> scales,
                                        const WeightFormat& format, Executor& executor) {
  if (format.group_size != kWholeTensor) return WholeRange();
  const absl::StatusOr<std::pair<float, float>> range = TensorMinMax(weight, scales, executor);
  if (!range.ok()) return range.status();
  return WholeRange(*range);
}

void ChooseWhole(const std::vector<std::vector<double>>& losses, const WholeRange& range,
                 const WeightFormat& format, bool autoawq, Ranges& ranges) {
  std::vector<double> total(losses.front().size(), 0.0);
  for (const std::vector<double>& tile : losses) {
    for (size_t f = 0; f < total.size(); ++f) total[f] += tile[f];
  }
  const auto best = std::min_element(total.begin(), total.end()) - total.begin();
  const ShrunkRange chosen =
      Shrunk(range->first, range->second, static_cast<int>(best), format, autoawq);
  ranges.Fill(chosen.affine);
  std::fill(ranges.narrowed.begin(), ranges.narrowed.end(), best > 0 ? 1 : 0);
  std::fill(ranges.clamps.begin(), ranges.clamps.end(), chosen.clamp);
}

void AddByFactor(const std::vector<double>& losses, std::vector<double>& sums) {
  for (size_t i = 0; i < losses.size(); ++i) sums[i % sums.size()] += losses[i];
}

}  // namespace salient
