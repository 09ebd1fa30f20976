// Block rounding's inner loops against plain loops, and against what they minimise solved outright.
#include "core/kernels/panel_kernels.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "core/linalg/cholesky.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"

namespace salient {
namespace {

using testing::GaussianMatrix;

class PanelTest : public ::testing::Test {
 protected:
  static constexpr int64_t kColumns = 37;

  PanelTest()
      : scales_(3, kPanelRows),
        zero_points_(3, kPanelRows),
        group_of_(kColumns),
        h_(kColumns, kColumns) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> uniform(0.05f, 0.4f);
    for (int64_t i = 0; i < 3 * kPanelRows; ++i) {
      scales_.data()[i] = uniform(random);
      zero_points_.data()[i] = static_cast<float>(random() % 16);
    }
    for (int64_t j = 0; j < kColumns; ++j) group_of_[j] = static_cast<int32_t>(j / 13);
    const Matrix x = testing::Activations(6, 64, kColumns);
    for (int64_t i = 0; i < kColumns; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        for (int64_t t = 0; t < 64; ++t) h_.Row(i)[j] += x.Row(t)[i] * x.Row(t)[j] / 64;
      }
    }
  }

  PanelAffine AffineMaps() const {
    return {group_of_.data(), scales_.data(), zero_points_.data(), 15};
  }

  std::vector<RowSegment> Maps(int64_t t) const {
    std::vector<RowSegment> maps;
    for (int64_t g = 0; g < 3; ++g) {
      maps.push_back(
          {13 * g, std::min(kColumns, 13 * (g + 1)), scales_.Row(g)[t], zero_points_.Row(g)[t]});
    }
    return maps;
  }

  double RowLoss(const Matrix& errors, int64_t t) const {
    double loss = 0;
    for (int64_t i = 0; i < kColumns; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        loss += double{errors.Row(i)[t]} * h_.Row(i)[j] * errors.Row(j)[t];
      }
    }
    return loss;
  }

  Matrix Errors(const Matrix& codes, const Matrix& weights) const {
    Matrix errors(kColumns, kPanelRows);
    for (int64_t j = 0; j < kColumns; ++j) {
      for (int64_t t = 0; t < kPanelRows; ++t) {
        errors.Row(j)[t] = scales_.Row(group_of_[j])[t] * codes.Row(j)[t] - weights.Row(j)[t];
      }
    }
    return errors;
  }

  Matrix scales_;
  Matrix zero_points_;
  std::vector<int32_t> group_of_;
  Matrix h_;
};

TEST_F(PanelTest, AddChangedRowsAddsWhatTheChangesMultiply) {
  Matrix before(1, kColumns);
  Matrix codes(1, kColumns);
  for (int64_t j = 0; j < kColumns; ++j) codes.data()[j] = static_cast<float>(j % 3);
  before.data()[4] = codes.data()[4];
  Matrix out = GaussianMatrix(7, 1, kColumns);
  std::vector<double> expected(out.data(), out.data() + kColumns);
  for (int64_t i = 0; i < kColumns; ++i) {
    for (int64_t j = 3; j < 31; ++j) {
      expected[i] += double{codes.data()[j] - before.data()[j]} * h_.Row(j)[i];
    }
  }
  AddChangedRows(h_.data(), kColumns, kColumns, 3, 31, codes.data(), before.data(), out.data());
  for (int64_t i = 0; i < kColumns; ++i) {
    EXPECT_NEAR(out.data()[i], expected[i], 1e-5 * (1 + std::abs(expected[i])));
    EXPECT_EQ(before.data()[i], i >= 3 && i < 31 ? codes.data()[i] : 0) << i;
  }
}

// Property (panel_kernels.h): each column is set to its best code given all others, so no single
// change of a code can lower the loss right after it was visited, and the loss never rises.
TEST_F(PanelTest, DescentEndsWhereNoSingleCodeHelps) {
  const Matrix weights = GaussianMatrix(8, kColumns, kPanelRows);
  Matrix codes(kColumns, kPanelRows);
  for (int64_t j = 0; j < kColumns; ++j) {
    for (int64_t t = 0; t < kPanelRows; ++t) {
      const float zero = zero_points_.Row(group_of_[j])[t];
      codes.Row(j)[t] = std::clamp(std::nearbyint(weights.Row(j)[t] / scales_.Row(group_of_[j])[t]),
                                   -zero, 15 - zero);
    }
  }
  std::vector<float> diagonal(kColumns);
  for (int64_t j = 0; j < kColumns; ++j) diagonal[j] = h_.Row(j)[j];
  std::vector<double> last(kPanelRows);
  for (int64_t t = 0; t < kPanelRows; ++t) last[t] = RowLoss(Errors(codes, weights), t);
  const std::vector<double> nearest = last;
  int64_t changes_of_last_sweep = 0;
  for (int sweep = 0; sweep < 30; ++sweep) {
    const Matrix errors = Errors(codes, weights);
    changes_of_last_sweep = 0;
    for (int64_t t = 0; t < kPanelRows; ++t) {
      std::vector<float> row(kColumns), gradient(kColumns, 0);
      for (int64_t j = 0; j < kColumns; ++j) {
        row[j] = codes.Row(j)[t];
        for (int64_t i = 0; i < kColumns; ++i) gradient[j] += h_.Row(i)[j] * errors.Row(i)[t];
      }
      const std::vector<RowSegment> maps = Maps(t);
      const int64_t changes = DescendRow(h_.data(), kColumns, kColumns, diagonal.data(),
                                         maps.data(), 15, row.data(), gradient.data());
      changes_of_last_sweep += changes;
      for (int64_t j = 0; j < kColumns; ++j) codes.Row(j)[t] = row[j];
      const Matrix after = Errors(codes, weights);
      for (int64_t j = 0; j < kColumns; ++j) {
        double expected = 0;
        for (int64_t i = 0; i < kColumns; ++i) expected += double{h_.Row(i)[j]} * after.Row(i)[t];
        EXPECT_NEAR(gradient[j], expected, 1e-4 * (1 + std::abs(expected)));
      }
      const double now = RowLoss(after, t);
      EXPECT_LE(now, last[t] * (1 + 1e-5)) << "sweep " << sweep << " row " << t;
      last[t] = now;
    }
  }
  EXPECT_EQ(changes_of_last_sweep, 0);
  EXPECT_LT(std::accumulate(last.begin(), last.end(), 0.0),
            0.95 * std::accumulate(nearest.begin(), nearest.end(), 0.0));
  for (int64_t j = 0; j < kColumns; ++j) {
    for (int64_t t = 0; t < kPanelRows; ++t) {
      const float zero = zero_points_.Row(group_of_[j])[t];
      const float kept = codes.Row(j)[t];
      for (float other : {kept - 1, kept + 1}) {
        if (other < -zero || other > 15 - zero) continue;
        codes.Row(j)[t] = other;
        EXPECT_GE(RowLoss(Errors(codes, weights), t), last[t] * (1 - 1e-4));
      }
      codes.Row(j)[t] = kept;
    }
  }
}

// One sweep against a plain loop over columns, on more columns than are handled at once.
TEST(DescendRowTest, VisitsColumnAfterColumnAsAPlainLoopDoes) {
  constexpr int64_t kN = 203;
  const Matrix x = testing::Activations(21, 300, kN);
  Matrix h(kN, kN);
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t i = 0; i < kN; ++i) {
      for (int64_t j = 0; j < kN; ++j) h.Row(i)[j] += x.Row(t)[i] * x.Row(t)[j] / 300;
    }
  }
  for (int64_t j = 0; j < kN; ++j) h.Row(90)[j] = h.Row(j)[90] = 0;  // a channel that never fired
  std::vector<float> diagonal(kN);
  for (int64_t j = 0; j < kN; ++j) diagonal[j] = h.Row(j)[j];
  const std::vector<RowSegment> maps = {
      {0, 50, 0.3f, 7}, {50, 100, 0.1f, 2}, {100, 150, 0.5f, 9}, {150, kN, 0.2f, 8}};
  const Matrix start = GaussianMatrix(22, 1, kN);
  const Matrix slopes = GaussianMatrix(23, 1, kN, 2);
  std::vector<float> codes(kN), gradient(slopes.data(), slopes.data() + kN);
  for (int64_t j = 0; j < kN; ++j) codes[j] = std::nearbyint(start.data()[j]);
  std::vector<float> expected = codes;
  std::vector<float> expected_gradient = gradient;
  int64_t expected_changes = 0;
  for (const RowSegment& map : maps) {
    for (int64_t j = map.begin; j < map.end; ++j) {
      if (!(diagonal[j] > 0)) continue;
      const float step = expected_gradient[j] / (diagonal[j] * map.scale);
      const float best =
          std::clamp(std::nearbyint(expected[j] - step), -map.zero_point, 15 - map.zero_point);
      const float amount = (best - expected[j]) * map.scale;
      expected_changes += best != expected[j] ? 1 : 0;
      expected[j] = best;
      for (int64_t i = 0; i < kN; ++i) {
        expected_gradient[i] = std::fma(h.Row(j)[i], amount, expected_gradient[i]);
      }
    }
  }
  const int64_t changes =
      DescendRow(h.data(), kN, kN, diagonal.data(), maps.data(), 15, codes.data(), gradient.data());
  EXPECT_GT(changes, kN / 2);
  EXPECT_EQ(changes, expected_changes);
  EXPECT_EQ(codes, expected);
  for (int64_t j = 0; j < kN; ++j) {
    EXPECT_NEAR(gradient[j], expected_gradient[j], 1e-4 * (1 + std::abs(expected_gradient[j])));
  }
}

// GPTQ written the slow way: after each column, the columns still to come move to the minimum
// of the quadratic form given what was fixed so far, here by solving for it outright.
TEST_F(PanelTest, GptqEqualsOptimalBrainQuantizationSolvedOutright) {
  constexpr double kDamping = 0.5;
  const Matrix weights = GaussianMatrix(9, kColumns, kPanelRows);
  std::vector<int32_t> order(kColumns);
  std::iota(order.begin(), order.end(), 0);
  std::reverse(order.begin(), order.end());
  const auto damped = [&](int64_t p, int64_t q) {
    return h_.Row(order[p])[order[q]] + (p == q ? kDamping : 0.0);
  };
  std::vector<double> a(kColumns * kColumns);
  for (int64_t p = 0; p < kColumns; ++p) {
    for (int64_t q = 0; q < kColumns; ++q) a[p * kColumns + q] = damped(p, q);
  }
  const absl::StatusOr<std::vector<double>> upper = InverseUpperCholesky(a, kColumns);
  ASSERT_TRUE(upper.ok()) << upper.status();
  Matrix u(kColumns, kColumns);
  std::copy(upper->begin(), upper->end(), u.data());
  Matrix work(kColumns, kPanelRows);
  for (int64_t p = 0; p < kColumns; ++p) {
    std::copy_n(weights.Row(order[p]), kPanelRows, work.Row(p));
  }
  Matrix codes(kColumns, kPanelRows);
  PanelGptq(u.data(), kColumns, order.data(), AffineMaps(), work.data(), codes.data());

  int64_t different = 0;
  for (int64_t t = 0; t < kPanelRows; ++t) {
    std::vector<double> moved(kColumns);
    for (int64_t p = 0; p < kColumns; ++p) moved[p] = weights.Row(order[p])[t];
    for (int64_t p = 0; p < kColumns; ++p) {
      const int32_t g = group_of_[order[p]];
      const double scale = scales_.Row(g)[t];
      const double zero = zero_points_.Row(g)[t];
      const double code = std::clamp(std::nearbyint(moved[p] / scale), -zero, 15 - zero);
      different += code != codes.Row(order[p])[t] ? 1 : 0;
      // min over r of the form at (error e of column p, change r of the rest): A_rr r = -A_rp e.
      const double error = codes.Row(order[p])[t] * scale - moved[p];
      const int64_t rest = kColumns - p - 1;
      std::vector<double> arr(rest * rest);
      std::vector<double> rhs(rest);
      for (int64_t i = 0; i < rest; ++i) {
        rhs[i] = -damped(p + 1 + i, p) * error;
        for (int64_t j = 0; j < rest; ++j) arr[i * rest + j] = damped(p + 1 + i, p + 1 + j);
      }
      const absl::Status solved = SolveInPlace(absl::MakeSpan(arr), absl::MakeSpan(rhs));
      ASSERT_TRUE(solved.ok()) << solved;
      for (int64_t i = 0; i < rest; ++i) moved[p + 1 + i] += rhs[i];
    }
  }
  EXPECT_LE(different, 1) << "codes may differ at exact ties only";
}

}  // namespace
}  // namespace salient
