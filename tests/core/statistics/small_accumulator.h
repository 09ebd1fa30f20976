// Accumulators as tests make them.
#ifndef SALIENT_TESTS_CORE_STATISTICS_SMALL_ACCUMULATOR_H_
#define SALIENT_TESTS_CORE_STATISTICS_SMALL_ACCUMULATOR_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "core/linalg/gemm.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"

namespace salient::testing {

inline StatisticsAccumulator MakeAccumulator(const StatisticsParams& params) {
  LimitThreadToItself();
  auto accumulator = StatisticsAccumulator::Create("layers.0.mlp", params);
  EXPECT_TRUE(accumulator.ok()) << accumulator.status();
  return *std::move(accumulator);
}

// Returns params by which more than 512 columns are kept in blocks: tests can do with fewer than
// 1024.
inline StatisticsParams ParamsOf(int64_t in_features) {
  StatisticsParams params;
  params.in_features = in_features;
  params.exact_gram_limit = 512;
  params.sketch_rows = 96;  // no multiple of 64
  params.sample_tokens = 32;
  params.seed = 11;
  return params;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_STATISTICS_SMALL_ACCUMULATOR_H_
