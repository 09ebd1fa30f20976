// Gives the sums of statistics as numbers.
#ifndef SALIENT_CORE_STATISTICS_SUM_VALUES_H_
#define SALIENT_CORE_STATISTICS_SUM_VALUES_H_

#include <cstdint>
#include <vector>

#include "core/kernels/binned_sums.h"
#include "core/statistics/statistics.h"

namespace salient {

// Borrows the statistics, which count at least one row.
class SumValues {
 public:
  explicit SumValues(const Statistics& statistics)
      : statistics_(statistics), count_(CountExponent(statistics.rows.size())) {}

  double Sum(int64_t j) const { return Column(statistics_.sum[j], j); }
  double SumAbs(int64_t j) const { return Column(statistics_.sum_abs[j], j); }
  double Sketch(int64_t k, int64_t j) const {
    return Column(statistics_.sketch[k * statistics_.params.in_features + j], j);
  }
  // Returns entry [i, j] of X^T X: any if the whole Gram was kept, else two columns of one block.
  double Product(int64_t i, int64_t j) const {
    const StatisticsParams& params = statistics_.params;
    const int64_t word = params.ExactGram()
                             ? statistics_.gram[i * params.in_features + j]
                             : statistics_.blocks[i * params.block_width + j % params.block_width];
    const std::vector<int32_t>& exponents = statistics_.square_exponents;
    return ValueOf(word, FrameOf(exponents[i] + exponents[j], count_));
  }
  std::vector<double> SumsAbs() const {
    std::vector<double> sums(statistics_.sum_abs.size());
    for (size_t j = 0; j < sums.size(); ++j) sums[j] = SumAbs(static_cast<int64_t>(j));
    return sums;
  }

 private:
  double Column(int64_t word, int64_t j) const {
    return ValueOf(word, FrameOf(2 * statistics_.sum_exponents[j], count_));
  }

  const Statistics& statistics_;
  int count_;
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_SUM_VALUES_H_
