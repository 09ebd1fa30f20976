// Holds attention against the formula in f64, one query at a time, on rows longer than what a task
// sees at once.
#include "core/model/blocks/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/tensor/half.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

Matrix Random(uint64_t seed, int64_t rows, int64_t cols, float deviation) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  Matrix matrix(rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) matrix.data()[i] = normal(random);
  return matrix;
}

// Computes the context of one query of one head.
std::vector<double> Context(const Matrix& q, const Matrix& k, const Matrix& v, int64_t t,
                            int64_t head, const AttentionShape& shape) {
  const int64_t dim = shape.head_dim;
  const int64_t column = head * shape.kv_heads / shape.heads * dim;
  const int64_t first = std::max<int64_t>(0, t + 1 - shape.window.value_or(t + 1));
  std::vector<double> scores;
  for (int64_t key = first; key <= t; ++key) {
    double score = 0;
    for (int64_t i = 0; i < dim; ++i) {
      score += static_cast<double>(q.Row(t)[head * dim + i]) * k.Row(key)[column + i];
    }
    score *= shape.scale;
    if (shape.soft_cap.has_value()) score = *shape.soft_cap * std::tanh(score / *shape.soft_cap);
    scores.push_back(score);
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  std::vector<double> context(static_cast<size_t>(dim));
  for (size_t key = 0; key < scores.size(); ++key) {
    const double weight = std::exp(scores[key] - largest);
    sum += weight;
    for (int64_t i = 0; i < dim; ++i) {
      context[static_cast<size_t>(i)] +=
          weight * v.Row(first + static_cast<int64_t>(key))[column + i];
    }
  }
  for (double& value : context) value /= sum;
  return context;
}

// These are 1 / sqrt(head_dim).
const double kRoot8 = 1 / std::sqrt(8.0);
const double kRoot12 = 1 / std::sqrt(12.0);
const double kRoot16 = 0.25;

struct AttentionCase {
  int64_t tokens;
  AttentionShape shape;
};

class AttentionTest : public ::testing::TestWithParam<AttentionCase> {
 protected:
  AttentionTest() { LimitThreadToItself(); }
};

TEST_P(AttentionTest, IsTheFormula) {
  const auto& [tokens, shape] = GetParam();
  const int64_t padded = PaddedTokens(tokens);
  // Scores of deviation 9: weights from all to nothing, so the largest moves between parts.
  const Matrix q = Random(1, padded, shape.heads * shape.head_dim, 3);
  const Matrix k = Random(2, padded, shape.kv_heads * shape.head_dim, 3);
  const Matrix v = Random(3, padded, shape.kv_heads * shape.head_dim, 1);
  SerialExecutor serial;
  const auto context = CausalAttention(q, k, v, tokens, shape, ComputeDType::kF32, serial);
  ASSERT_TRUE(context.ok());
  ASSERT_EQ(context->tokens(), tokens);
  for (int64_t t = 0; t < tokens; t += t < 600 ? 1 : 37) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      const std::vector<double> expected = Context(q, k, v, t, head, shape);
      for (int64_t i = 0; i < shape.head_dim; ++i) {
        ASSERT_NEAR(context->F32(t)[head * shape.head_dim + i], expected[static_cast<size_t>(i)],
                    2e-5)
            << "token " << t << " head " << head << " channel " << i;
      }
    }
  }
  // The bfloat16 output is the same, rounded; padding is 0; any executor gives these bits.
  testing::ThreadExecutor threads(3);
  const auto rounded = CausalAttention(q, k, v, tokens, shape, ComputeDType::kBF16, threads);
  ASSERT_TRUE(rounded.ok());
  for (int64_t t = 0; t < padded; ++t) {
    for (int64_t i = 0; i < context->features(); ++i) {
      ASSERT_EQ(rounded->BF16(t)[i], t < tokens ? F32ToBF16(context->F32(t)[i]) : 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         ::testing::Values(AttentionCase{1, {2, 1, 8, std::nullopt, kRoot8}},
                                           AttentionCase{64, {2, 2, 8, std::nullopt, kRoot8}},
                                           AttentionCase{255, {4, 2, 12, std::nullopt, kRoot12}},
                                           AttentionCase{257, {4, 2, 12, std::nullopt, kRoot12}},
                                           AttentionCase{700, {6, 2, 16, std::nullopt, kRoot16}},
                                           AttentionCase{700, {2, 1, 16, 1, kRoot16}},
                                           AttentionCase{700, {4, 2, 16, 100, kRoot16}},
                                           AttentionCase{700, {2, 2, 16, 320, kRoot16}},
                                           AttentionCase{577, {2, 1, 16, 256, kRoot16}},
                                           AttentionCase{300, {2, 1, 16, std::nullopt, 0.1}},
                                           AttentionCase{300, {4, 2, 16, 70, 0.5, 20.0}}));

}  // namespace
}  // namespace salient
