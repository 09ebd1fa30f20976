// Seconds of each stage of quantizing one Linear, beside bare oneDNN GEMM doing as many
// floating-point operations on the same threads in the same run.
//
// Counters: stage_s and gemm_s, seconds of the stage and of as much GEMM; over_gemm, their
// ratio (1 is the floor); GFLOP, the operations that both did; evaluations, the scales that a
// search evaluated on every row. The searches stand beside bfloat16 products where the CPU has
// them, all else beside f32; the label is the dtype.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/group/linear.h"
#include "core/group/round_linears.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/method/range_clip.h"
#include "core/method/ranges.h"
#include "core/method/round_block.h"
#include "core/method/round_nearest.h"
#include "core/method/scale_awq.h"
#include "core/pack/awq_gemm.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/search_loss.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"
#include "tests/bench/floor_dtype.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kTokens = 1024;

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Matrix Random(uint64_t seed, int64_t rows, int64_t cols) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Matrix matrix(rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) matrix.data()[i] = normal(random);
  return matrix;
}

// Operations a second of square GEMMs on all threads at once.
double GemmFlopRate(Executor& executor) {
  constexpr int64_t kSide = 1024;
  constexpr int64_t kCalls = 2 * kThreads;
  static const Matrix a = Random(1, kSide, kSide);
  static const Matrix b = Random(2, kSide, kSide);
  std::vector<Matrix> c;
  for (int64_t i = 0; i < kCalls; ++i) c.emplace_back(kSide, kSide);
  const double seconds = Seconds([&] {
    absl::Status status = executor.ForEach(kCalls, [&](int64_t i) {
      return Gemm(Op::kPlain, Op::kPlain, kSide, kSide, kSide, a.data(), kSide, b.data(), kSide,
                  0.0f, c[i].data(), kSide);
    });
    benchmark::DoNotOptimize(status);
  });
  return 2.0 * kSide * kSide * kSide * kCalls / seconds;
}

// Measures the same of bfloat16 products in tiles that stay in cache, as the searches make
// them.
double Bf16FlopRate(Executor& executor) {
  constexpr int64_t kRows = 64, kOutputs = 512, kColumns = 256, kRepeats = 250;
  static const std::vector<uint16_t> ones(kOutputs * kColumns, 0x3F80);
  static const Bf16Factor factor = *Bf16Factor::Create(ones.data(), kOutputs, kColumns, kColumns);
  const double seconds = Seconds([&] {
    absl::Status status = executor.ForEach(kThreads, [&](int64_t) -> absl::Status {
      Matrix c(kRows, kOutputs);
      for (int64_t i = 0; i < kRepeats; ++i) {
        absl::Status done = factor.Multiply(kRows, ones.data(), kColumns, 0.0f, c.data(), kOutputs);
        if (!done.ok()) return done;
      }
      return absl::OkStatus();
    });
    benchmark::DoNotOptimize(status);
  });
  return 2.0 * kRows * kOutputs * kColumns * kRepeats * kThreads / seconds;
}

double FlopRate(DType factors, Executor& executor) {
  return factors == DType::kBF16 ? Bf16FlopRate(executor) : GemmFlopRate(executor);
}

// Everything the stages need, made once per shape.
struct Fixture {
  Fixture(int64_t out_features, int64_t in_features)
      : x(Random(3, kTokens, in_features)),
        w(Random(4, out_features, in_features)),
        ones(static_cast<size_t>(in_features), 1.0f),
        executor(kThreads) {
    params.in_features = in_features;
    statistics = Fold();
    model.emplace(statistics);
    ranges.emplace(*RangeMinMax(View(), ones, format, false, executor));
  }

  WeightView View() const {
    return {DType::kF32, reinterpret_cast<const std::byte*>(w.data()), w.rows(), w.cols()};
  }

  Statistics Fold() {
    StatisticsAccumulator accumulator = *StatisticsAccumulator::Create("bench", params);
    for (int64_t row = 0; row < kTokens / 256; ++row) {
      const auto* bytes = reinterpret_cast<const std::byte*>(x.Row(row * 256));
      absl::Status status = accumulator.Fold(row, 0, DType::kF32, bytes, 256, executor);
      benchmark::DoNotOptimize(status);
    }
    return *std::move(accumulator).Finish(executor);
  }

  Matrix x;
  Matrix w;
  std::vector<float> ones;
  testing::ThreadExecutor executor;
  WeightFormat format;
  StatisticsParams params;
  Statistics statistics;
  std::optional<LossModel> model;
  std::optional<Ranges> ranges;
};

Fixture& FixtureOf(const benchmark::State& state) {
  static std::unique_ptr<Fixture> fixture;
  if (!fixture || fixture->w.rows() != state.range(0) || fixture->w.cols() != state.range(1)) {
    fixture.reset();
    fixture = std::make_unique<Fixture>(state.range(0), state.range(1));
  }
  return *fixture;
}

void Report(benchmark::State& state, double flop, const std::function<void(Fixture&)>& stage,
            DType factors = DType::kF32) {
  Fixture& fixture = FixtureOf(state);
  const DType floor = bench::FloorDType(factors);
  state.SetLabel(std::string(Name(floor)));
  double stage_seconds = 0;
  double gemm_seconds = 0;
  for (auto _ : state) {
    const double before = FlopRate(floor, fixture.executor);
    const double seconds = Seconds([&] { stage(fixture); });
    const double after = FlopRate(floor, fixture.executor);
    stage_seconds += seconds;
    gemm_seconds += flop / (0.5 * (before + after));
    state.SetIterationTime(seconds);
  }
  const double n = static_cast<double>(state.iterations());
  state.counters["stage_s"] = stage_seconds / n;
  state.counters["gemm_s"] = gemm_seconds / n;
  state.counters["over_gemm"] = stage_seconds / gemm_seconds;
  state.counters["GFLOP"] = flop / 1e9;
}

// Multiply-adds per weight (or activation) of one pass over the statistics.
double PerColumn(const Fixture& fixture) {
  const StatisticsParams& params = fixture.params;
  return static_cast<double>(params.ExactGram() ? params.in_features
                                                : params.block_width + params.sketch_rows);
}

double Parameters(const benchmark::State& state) {
  return static_cast<double>(state.range(0)) * static_cast<double>(state.range(1));
}

void BM_Fold(benchmark::State& state) {
  Fixture& fixture = FixtureOf(state);
  const double flop = 2.0 * kTokens * static_cast<double>(state.range(1)) * PerColumn(fixture);
  Report(state, flop, [](Fixture& f) { benchmark::DoNotOptimize(f.Fold()); });
}

// The operations that screening leaves, beside bfloat16 products: what is above is elementwise.
void BM_Search(benchmark::State& state) {
  Fixture& fixture = FixtureOf(state);
  const auto search = [](Fixture& f) {
    const std::vector<WeightView> weights = {f.View()};
    return SearchAwqScale(weights, f.statistics, *f.model, f.format, {}, f.executor);
  };
  const double evaluations = static_cast<double>(search(fixture)->candidates.size());
  const double products = SearchLoss::Create(*fixture.model, fixture.executor)->ProductsPerWeight();
  Report(
      state, 2.0 * evaluations * Parameters(state) * products,
      [&](Fixture& f) { benchmark::DoNotOptimize(search(f)); }, DType::kBF16);
  state.counters["evaluations"] = evaluations;
}

void BM_Clip(benchmark::State& state) {
  Fixture& fixture = FixtureOf(state);
  constexpr double kFactors = 20;
  // A group of 128 columns multiplies 3 of 4 squares of 64.
  const double flop =
      2.0 * kFactors * Parameters(state) * 0.75 * static_cast<double>(fixture.format.group_size);
  Report(
      state, flop,
      [](Fixture& f) {
        benchmark::DoNotOptimize(
            RangeClip(f.View(), f.ones, *f.model, f.format, false, f.executor));
      },
      DType::kBF16);
}

void BM_RoundBlock(benchmark::State& state) {
  Fixture& fixture = FixtureOf(state);
  const RoundBlockParams params;
  // Error feedback touches half of each block, the gradient and the products of the first refit all
  // of it. Sweeps and later refits pay for codes that change, which is not counted.
  constexpr double passes = 2.5;
  const double flop = 2.0 * passes * Parameters(state) *
                      static_cast<double>(std::min(params.width, fixture.params.in_features));
  Report(state, flop, [](Fixture& f) {
    benchmark::DoNotOptimize(
        RoundBlock(f.View(), f.ones, *f.ranges, *f.model, f.format, {}, f.executor));
  });
}

void BM_Losses(benchmark::State& state) {
  Fixture& fixture = FixtureOf(state);
  // It counts the sums of round-to-nearest and of the weights, and of a result.
  const double flop = 3 * 2.0 * Parameters(state) * PerColumn(fixture);
  Report(state, flop, [](Fixture& f) {
    const Linear linear{"bench", f.View()};
    benchmark::DoNotOptimize(Baselines({&linear, 1}, f.ones, *f.model, f.format, f.executor));
    benchmark::DoNotOptimize(
        RoundLinears({&linear, 1}, f.ones, *f.model, kPlainRounding, f.format, f.executor));
  });
}

// Reports, for stages that only move bytes, seconds beside a copy of the codes.
void ReportBytes(benchmark::State& state, const std::function<void(Fixture&)>& stage) {
  Fixture& fixture = FixtureOf(state);
  const std::vector<uint8_t> codes(static_cast<size_t>(state.range(0) * state.range(1)), 1);
  std::vector<uint8_t> copy(codes.size());
  double stage_seconds = 0;
  double copy_seconds = 0;
  for (auto _ : state) {
    const double seconds = Seconds([&] { stage(fixture); });
    stage_seconds += seconds;
    copy_seconds += Seconds([&] {
      std::memcpy(copy.data(), codes.data(), copy.size());
      benchmark::DoNotOptimize(copy.data());
    });
    state.SetIterationTime(seconds);
  }
  state.counters["stage_s"] = stage_seconds / static_cast<double>(state.iterations());
  state.counters["over_memcpy"] = stage_seconds / copy_seconds;
}

void BM_RoundNearest(benchmark::State& state) {
  ReportBytes(state, [](Fixture& f) {
    benchmark::DoNotOptimize(RoundNearest(f.View(), f.ones, *f.ranges, f.format, f.executor));
  });
}

void BM_Pack(benchmark::State& state) {
  Fixture& fixture = FixtureOf(state);
  const AffineGroups groups = *RoundNearest(fixture.View(), fixture.ones, *fixture.ranges,
                                            fixture.format, fixture.executor);
  ReportBytes(state, [&](Fixture&) { benchmark::DoNotOptimize(PackAwqGemm("bench", groups)); });
}

void Shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"out", "in"})
      ->Args({64, 256})
      ->Args({4096, 4096})
      ->Args({14336, 4096})
      ->UseManualTime()
      ->Unit(benchmark::kSecond)
      ->Iterations(1);
}

BENCHMARK(BM_Fold)->Apply(Shapes);
BENCHMARK(BM_Search)->Apply(Shapes);
BENCHMARK(BM_Clip)->Apply(Shapes);
BENCHMARK(BM_RoundNearest)->Apply(Shapes);
BENCHMARK(BM_RoundBlock)->Apply(Shapes);
BENCHMARK(BM_Losses)->Apply(Shapes);
BENCHMARK(BM_Pack)->Apply(Shapes);

}  // namespace
}  // namespace salient

BENCHMARK_MAIN();
