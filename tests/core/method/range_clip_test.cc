#include "core/method/range_clip.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels/round_kernels.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/matrix_view.h"

namespace salient {
namespace {

// The chosen factor by the definition, one group at a time, straight from the tokens.
class RangeClipTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(RangeClipTest, ChoosesTheFactorWithTheLeastOutputError) {
  constexpr int64_t kColumns = 320, kRows = 9;
  const int64_t size = GetParam();
  const Matrix x = testing::Activations(1, 200, kColumns);
  const Statistics statistics = testing::DirectStatistics(x);
  const LossModel model(statistics);
  Matrix w = testing::GaussianMatrix(2, kRows, kColumns, 0.1f);
  for (int64_t i = 0; i < kRows; ++i) w.Row(i)[(37 * i) % kColumns] *= 6;  // worth clipping
  std::vector<float> scales(kColumns);
  for (int64_t j = 0; j < kColumns; ++j) scales[j] = 0.5f + 0.25f * static_cast<float>(j % 5);
  WeightFormat format;
  format.group_size = size;
  SerialExecutor executor;
  const absl::StatusOr<Ranges> ranges =
      RangeClip(testing::View(w), scales, model, format, false, executor);
  ASSERT_TRUE(ranges.ok()) << ranges.status();

  int64_t narrowed = 0;
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t g = 0; g < kColumns / size; ++g) {
      float lo = 0, hi = 0;
      for (int64_t j = g * size; j < (g + 1) * size; ++j) {
        lo = std::min(lo, w.Row(i)[j] * scales[j]);
        hi = std::max(hi, w.Row(i)[j] * scales[j]);
      }
      double best = std::numeric_limits<double>::infinity();
      double chosen = best;
      for (int f = 0; f < 20; ++f) {
        const Affine affine = FitAffine(lo, hi, 1.0f - 0.025f * static_cast<float>(f), format);
        double loss = 0;
        for (int64_t t = 0; t < x.rows(); ++t) {
          // Parts of a group in different blocks of 256 columns count as independent.
          for (int64_t begin = g * size; begin < (g + 1) * size;) {
            const int64_t end = std::min((g + 1) * size, (begin / 256 + 1) * 256);
            double y = 0;
            for (int64_t j = begin; j < end; ++j) {
              const float scaled = w.Row(i)[j] * scales[j];
              const float code = std::clamp(
                  std::nearbyint(scaled / affine.scale) + affine.zero_point, 0.0f, 15.0f);
              y += (affine.scale * (code - affine.zero_point) - scaled) / scales[j] * x.Row(t)[j];
            }
            loss += y * y;
            begin = end;
          }
        }
        best = std::min(best, loss);
        if (affine.scale == ranges->scales[i * ranges->groups + g]) chosen = std::min(chosen, loss);
      }
      EXPECT_LE(chosen, best * (1 + 1e-4)) << "row " << i << " group " << g;
      narrowed += ranges->narrowed[i * ranges->groups + g];
    }
  }
  EXPECT_GT(narrowed, 0);
}

INSTANTIATE_TEST_SUITE_P(GroupSizes, RangeClipTest, ::testing::Values(32, 64, 160, 320));

// Sum over rows, groups and exact blocks of d H d^T in f64, for errors of `ranges`.
double TotalLoss(const Matrix& w, const std::vector<float>& scales, const Ranges& ranges,
                 const LossModel& model, const WeightFormat& format) {
  const int64_t size = format.GroupSize(w.cols());
  const int64_t width = model.block_width();
  double total = 0;
  for (int64_t i = 0; i < w.rows(); ++i) {
    std::vector<double> d(static_cast<size_t>(w.cols()));
    for (int64_t j = 0; j < w.cols(); ++j) {
      const Affine affine = ranges.At(i, j / size, format);
      const float scaled = w.Row(i)[j] * scales[j];
      const float code = std::clamp(std::nearbyint(scaled / affine.scale) + affine.zero_point, 0.0f,
                                    affine.max_code);
      d[j] = (double{affine.scale} * (code - affine.zero_point) - scaled) / scales[j];
    }
    for (int64_t j = 0; j < w.cols(); ++j) {
      const float* h = model.Block(j / width) + j % width * width;
      const int64_t begin = std::max(j / size * size, j / width * width);
      const int64_t end = std::min({(j / size + 1) * size, (j / width + 1) * width, w.cols()});
      for (int64_t k = begin; k < end; ++k) total += d[j] * h[k % width] * d[k];
    }
  }
  return total;
}

// The bfloat16 losses choose as well as those in f32, whatever the columns and the format.
TEST(RangeClipTwinTest, ChoicesLoseAtMostAThousandthAgainstF32) {
  constexpr int64_t kColumns = 640, kRows = 48;
  for (const bool shifted : {false, true}) {
    Matrix x = testing::Activations(3, 300, kColumns);
    const Matrix shift = testing::GaussianMatrix(4, 1, kColumns, 5.0f);
    for (int64_t t = 0; t < x.rows() && shifted; ++t) {
      for (int64_t j = 0; j < kColumns; ++j) {
        x.Row(t)[j] = (x.Row(t)[j] + shift.data()[j]) * (t == 9 ? 100.0f : 1.0f);
      }
    }
    const Statistics statistics = testing::DirectStatistics(x);
    const LossModel model(statistics);
    Matrix w = testing::GaussianMatrix(5, kRows, kColumns, 0.1f);
    for (int64_t i = 0; i < kRows; ++i) w.Row(i)[(37 * i) % kColumns] *= 6;
    std::vector<float> scales(kColumns);
    for (int64_t j = 0; j < kColumns; ++j) scales[j] = 0.5f + 0.25f * static_cast<float>(j % 5);
    SerialExecutor executor;
    for (const WeightFormat& format :
         {WeightFormat{4, 128, false, DType::kF16}, WeightFormat{3, 32, false, DType::kBF16},
          WeightFormat{2, 160, true, DType::kF16}, WeightFormat{4, -1, false, DType::kF32}}) {
      const auto fast = RangeClip(testing::View(w), scales, model, format, false, executor);
      ASSERT_TRUE(fast.ok()) << fast.status();
      const auto twin = RangeClipTwin(testing::View(w), scales, model, format, executor);
      ASSERT_TRUE(twin.ok()) << twin.status();
      const double least = TotalLoss(w, scales, *twin, model, format);
      EXPECT_LE(TotalLoss(w, scales, *fast, model, format), 1.001 * least)
          << format.bits << " bit, groups of " << format.group_size << ", shifted " << shifted;
      int64_t equal = 0;
      for (size_t i = 0; i < fast->scales.size(); ++i) {
        equal += fast->scales[i] == twin->scales[i] ? 1 : 0;
      }
      EXPECT_GE(static_cast<double>(equal), 0.9 * static_cast<double>(fast->scales.size()));
    }
  }
}

}  // namespace
}  // namespace salient
