// CPU seconds of folding calibration rows, beside bare oneDNN doing as many operations on operands
// that lie in the cache, on the same thread in turns.
//
// Counters: row_s and products_s, CPU seconds of one row, the least of all iterations, because
// neighbours on the machine take cache and clock; over_products, their ratio; bytes_s, what a row
// must move besides (its activations in, the totals, f64, in and out) at the speed of a copy;
// over_floor, row_s over products_s + bytes_s; GFLOP, those of the products of one row. The label
// is the dtype of the products, F32 also for BF16 rows where the CPU does not multiply that.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "tests/bench/floor_dtype.h"
#include "tests/bench/thread_cpu_seconds.h"

namespace salient {
namespace {

std::vector<float> RandomValues(int64_t count) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> some(1 << 14);
  for (float& value : some) value = normal(random);
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = some[(i * 7919) % some.size()];
  return values;
}

// Entries of X^T X that are multiplied, those of R X among them: the diagonal in strips of 128
// rows from the diagonal on.
double Entries(const StatisticsParams& params) {
  double entries = 0;
  for (int64_t first = 0; first < params.in_features; first += params.block_width) {
    const int64_t columns = std::min(params.block_width, params.in_features - first);
    for (int64_t row = 0; row < columns; row += 128) {
      entries += static_cast<double>(std::min<int64_t>(128, columns - row) * (columns - row));
    }
    const int64_t beside =
        params.ExactGram() ? params.in_features - first - columns : params.sketch_rows;
    entries += static_cast<double>(columns * beside);
  }
  return entries;
}

// Returns the seconds of one product [256, 256, 512], the best shape of all.
double ProductSeconds(DType dtype, int calls) {
  constexpr int64_t kSide = 256;
  constexpr int64_t kDepth = 512;
  static const std::vector<float> wide = RandomValues(kSide * kDepth);
  static const std::vector<uint16_t> narrow = [] {
    std::vector<uint16_t> bits(wide.size());
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = F32ToBF16(wide[i]);
    return bits;
  }();
  static Matrix c(kSide, kSide);
  return ThreadCpuSeconds([&] {
           for (int i = 0; i < calls; ++i) {
             absl::Status status =
                 dtype == DType::kBF16
                     ? GemmBf16(kSide, kSide, kDepth, narrow.data(), kDepth, narrow.data(), kDepth,
                                0, c.data(), kSide)
                     : Gemm(Op::kPlain, Op::kPlain, kSide, kSide, kDepth, wide.data(), kDepth,
                            wide.data(), kSide, 0, c.data(), kSide);
             benchmark::DoNotOptimize(status);
           }
         }) /
         calls;
}

// Seconds of moving a byte, in or out, to or from memory that no cache holds.
double ByteSeconds() {
  constexpr size_t kBytes = size_t{1} << 26;
  static const std::vector<std::byte> from(kBytes, std::byte{1});
  static std::vector<std::byte> to(kBytes);
  return ThreadCpuSeconds([&] {
           std::copy(from.begin(), from.end(), to.begin());
           benchmark::DoNotOptimize(to.data());
         }) /
         (2.0 * kBytes);
}

void Fold(benchmark::State& state, DType dtype) {
  LimitThreadToItself();
  StatisticsParams params;
  params.in_features = state.range(0);
  const int64_t tokens = state.range(1);
  const int64_t count = tokens * params.in_features;
  const std::vector<float> wide = RandomValues(count);
  std::vector<uint16_t> narrow(wide.size());
  for (size_t i = 0; i < narrow.size(); ++i) narrow[i] = F32ToBF16(wide[i]);
  const auto* activations = dtype == DType::kBF16
                                ? reinterpret_cast<const std::byte*>(narrow.data())
                                : reinterpret_cast<const std::byte*>(wide.data());
  SerialExecutor serial;
  StatisticsAccumulator accumulator = *StatisticsAccumulator::Create("bench", params);
  int64_t row = 0;
  const auto fold = [&] {
    absl::Status status = accumulator.FoldRow(row++, dtype, activations, tokens, serial);
    benchmark::DoNotOptimize(status);
  };
  fold();  // It makes the kernels and touches the memory.
  const double flop = 2 * static_cast<double>(tokens) * Entries(params);
  constexpr double kProductFlop = 2.0 * 256 * 256 * 512;
  const DType floor = bench::FloorDType(dtype);
  state.SetLabel(std::string(Name(floor)));
  double row_seconds = 1e9;
  double products_seconds = 1e9;
  for (auto _ : state) {
    const double before = ProductSeconds(floor, 8);
    const double seconds = ThreadCpuSeconds(fold);
    const double after = ProductSeconds(floor, 8);
    row_seconds = std::min(row_seconds, seconds);
    products_seconds = std::min(products_seconds, flop / kProductFlop * std::min(before, after));
    state.SetIterationTime(seconds);
  }
  const double sums = static_cast<double>(
      params.in_features *
      (params.ExactGram() ? params.in_features / 2 : params.block_width / 2 + params.sketch_rows));
  double byte_seconds = 1e9;
  for (int i = 0; i < 5; ++i) byte_seconds = std::min(byte_seconds, ByteSeconds());
  const double bytes_seconds =
      (static_cast<double>(count * SizeOf(dtype)) + 16 * sums) * byte_seconds;
  state.counters["row_s"] = row_seconds;
  state.counters["products_s"] = products_seconds;
  state.counters["over_products"] = row_seconds / products_seconds;
  state.counters["bytes_s"] = bytes_seconds;
  state.counters["over_floor"] = row_seconds / (products_seconds + bytes_seconds);
  state.counters["GFLOP"] = flop / 1e9;
}

void BM_FoldBf16(benchmark::State& state) { Fold(state, DType::kBF16); }
void BM_FoldF32(benchmark::State& state) { Fold(state, DType::kF32); }

void Rows(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"width", "tokens"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const int64_t width : {256, 896, 2048, 4096, 14336}) benchmark->Args({width, 512});
  benchmark->Args({4096, 128})->Args({4096, 2048});
}

BENCHMARK(BM_FoldBf16)->Apply(Rows);
BENCHMARK(BM_FoldF32)->Apply(Rows);

}  // namespace
}  // namespace salient

BENCHMARK_MAIN();
