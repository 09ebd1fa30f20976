// Holds perplexity and divergence against the definitions, in long double over whole rows.
#include "core/quality/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace salient {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kTokens = 6;
constexpr int64_t kVocabulary = 50;

Matrix RandomLogits(unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Matrix logits(kTokens, kVocabulary);
  for (int64_t i = 0; i < kTokens * kVocabulary; ++i) logits.data()[i] = normal(random);
  return logits;
}

std::vector<long double> LogProbabilities(const float* row) {
  long double sum = 0;
  for (int64_t i = 0; i < kVocabulary; ++i) sum += std::exp(static_cast<long double>(row[i]));
  std::vector<long double> log_p;
  for (int64_t i = 0; i < kVocabulary; ++i) log_p.push_back(row[i] - std::log(sum));
  return log_p;
}

MatrixView Slice(const Matrix& logits, int64_t first, int64_t count) {
  return {logits.data() + first, logits.rows(), count, logits.cols()};
}

const std::vector<std::vector<int64_t>> kCuts = {{50}, {1, 49}, {17, 17, 16}, {49, 1}};

TEST(RowLikelihoodTest, IsTheNegativeLogSoftmaxHoweverTheVocabularyIsCut) {
  const std::vector<int64_t> tokens = {3, 0, 49, 17, 17, 33};
  for (const float scale : {1.0f, 30.0f}) {
    const Matrix logits = RandomLogits(1, scale);
    long double expected = 0;
    for (int64_t t = 0; t + 1 < kTokens; ++t) {
      expected -= LogProbabilities(logits.Row(t))[static_cast<size_t>(tokens[t + 1])];
    }
    for (const auto& cut : kCuts) {
      RowLikelihood row(tokens);
      int64_t first = 0;
      for (const int64_t count : cut) {
        ASSERT_TRUE(row.Add(first, Slice(logits, first, count)).ok());
        first += count;
      }
      const auto likelihood = row.Finish();
      ASSERT_TRUE(likelihood.ok()) << likelihood.status();
      EXPECT_EQ(likelihood->tokens, kTokens - 1);
      EXPECT_NEAR(likelihood->negative_log_likelihood, static_cast<double>(expected), 1e-11);
    }
  }
}

TEST(RowLikelihoodTest, SurvivesLogitsThatExpDoesNot) {
  Matrix logits(2, 2);
  logits.Row(0)[0] = 3e38f;
  logits.Row(0)[1] = -3e38f;
  RowLikelihood row(std::vector<int64_t>{0, 0});
  ASSERT_TRUE(row.Add(0, logits.View()).ok());
  EXPECT_EQ(row.Finish()->negative_log_likelihood, 0);
}

TEST(RowLikelihoodTest, RowsAddToOnePerplexity) {
  Likelihood total;
  total.Add({2.0, 3});
  total.Add({4.0, 1});
  EXPECT_DOUBLE_EQ(total.Perplexity(), std::exp(1.5));
  // Uniform logits: as many choices as ids.
  RowLikelihood row(std::vector<int64_t>{1, 2, 3, 4, 5, 6});
  ASSERT_TRUE(row.Add(0, Matrix(kTokens, kVocabulary).View()).ok());
  EXPECT_NEAR(row.Finish()->Perplexity(), kVocabulary, 1e-9);
}

TEST(RowLikelihoodTest, RefusesHolesNaNAndTokensWithoutLogit) {
  const std::vector<int64_t> tokens = {0, 1, 50};
  Matrix logits = RandomLogits(2, 1);
  RowLikelihood row(tokens);
  EXPECT_EQ(row.Add(1, logits.View()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(row.Add(0, {logits.data(), 1, kVocabulary, kVocabulary}).code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(row.Add(0, logits.View()).ok());
  EXPECT_THAT(std::string(row.Finish().status().message()),
              HasSubstr("token at position 2 is 50; expected 0 to 49"));
  logits.Row(1)[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(std::string(RowLikelihood(tokens).Add(0, logits.View()).message()),
              HasSubstr("logit of id 7 at position 1 is nan"));
  // The last row predicts nothing.
  Matrix last = RandomLogits(2, 1);
  last.Row(2)[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(RowLikelihood(tokens).Add(0, last.View()).ok());
}

TEST(RowDivergenceTest, IsTheDefinitionHoweverTheVocabularyIsCut) {
  for (const float scale : {1.0f, 30.0f}) {
    const Matrix source = RandomLogits(3, scale);
    Matrix result = RandomLogits(4, scale);
    for (int64_t i = 0; i < kVocabulary; ++i) result.Row(2)[i] = source.Row(2)[i];
    long double kl = 0;
    int64_t agreements = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      const auto p = LogProbabilities(source.Row(t));
      const auto q = LogProbabilities(result.Row(t));
      size_t p_top = 0;
      size_t q_top = 0;
      for (size_t i = 0; i < p.size(); ++i) {
        kl += std::exp(p[i]) * (p[i] - q[i]);
        if (p[i] > p[p_top]) p_top = i;
        if (q[i] > q[q_top]) q_top = i;
      }
      agreements += p_top == q_top ? 1 : 0;
    }
    EXPECT_GE(agreements, 1);
    EXPECT_LT(agreements, kTokens);
    for (const auto& cut : kCuts) {
      RowDivergence row(kTokens);
      int64_t first = 0;
      for (const int64_t count : cut) {
        ASSERT_TRUE(row.Add(first, Slice(source, first, count), Slice(result, first, count)).ok());
        first += count;
      }
      const auto divergence = row.Finish();
      ASSERT_TRUE(divergence.ok()) << divergence.status();
      EXPECT_NEAR(divergence->kl / static_cast<double>(kl), 1, 1e-11);
      EXPECT_EQ(divergence->agreements, agreements);
      EXPECT_EQ(divergence->tokens, kTokens);
      EXPECT_DOUBLE_EQ(divergence->Top1Agreement(),
                       static_cast<double>(agreements) / static_cast<double>(kTokens));
      EXPECT_DOUBLE_EQ(divergence->MeanKl(), divergence->kl / kTokens);
    }
  }
}

TEST(RowDivergenceTest, EqualLogitsDoNotDiverge) {
  const Matrix logits = RandomLogits(5, 3);
  RowDivergence row(kTokens);
  ASSERT_TRUE(row.Add(0, logits.View(), logits.View()).ok());
  EXPECT_NEAR(row.Finish()->kl, 0, 1e-12);
  EXPECT_EQ(row.Finish()->agreements, kTokens);
}

TEST(RowDivergenceTest, RefusesShapesThatDiffer) {
  const Matrix logits = RandomLogits(6, 1);
  RowDivergence row(kTokens);
  EXPECT_EQ(row.Add(0, logits.View(), Slice(logits, 0, 3)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(row.Add(4, logits.View(), logits.View()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(row.Finish().status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace salient
