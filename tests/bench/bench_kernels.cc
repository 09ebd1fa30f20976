// Times the vectorized inner loops beside a copy of the bytes that they read and write, in cache
// (16 Ki elements) and beyond it (16 Mi). Counters: beside_memcpy.h; the label is the instruction
// set.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/kernels/forward_kernels.h"
#include "core/kernels/round_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/kernels/token_kernels.h"
#include "core/tensor/half.h"
#include "tests/bench/beside_memcpy.h"

namespace salient::bench {
namespace {

// Holds what kernels read and write: `x` and `y` of both signs.
struct Vectors {
  explicit Vectors(int64_t n)
      : x(static_cast<size_t>(n)),
        y(x.size()),
        out(x.size()),
        bits(x.size()),
        bytes(x.size()),
        totals(x.size()) {
    uint32_t state = 1;
    for (size_t i = 0; i < x.size(); ++i) {
      state = state * 1664525u + 1013904223u;
      x[i] = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
      y[i] = 0.5f - x[i];
      bits[i] = F32ToBF16(x[i]);
    }
  }
  std::vector<float> x, y, out;
  std::vector<uint16_t> bits;
  std::vector<uint8_t> bytes;
  std::vector<int64_t> totals;
};

// `per_element`: bytes read and written.
void Report(benchmark::State& state, int64_t per_element,
            const std::function<void(int64_t n, Vectors&)>& kernel) {
  const int64_t n = state.range(0);
  Vectors vectors(n);
  state.SetLabel(KernelTarget());
  BesideMemcpy(state, n * per_element, [&] {
    kernel(n, vectors);
    benchmark::ClobberMemory();
  });
}

constexpr Affine kAffine = {0.125f, 8, 15};
constexpr int64_t kGroup = 128;

void BM_MinMax(benchmark::State& state) {
  Report(state, 4, [](int64_t n, Vectors& v) {
    for (int64_t i = 0; i < n; i += kGroup) benchmark::DoNotOptimize(MinMax(&v.x[i], kGroup));
  });
}

// Times fake quantization: range, scale and zero point of each group, then the error of its
// weights.
void BM_FakeQuantize(benchmark::State& state) {
  Report(state, 8, [](int64_t n, Vectors& v) {
    for (int64_t i = 0; i < n; i += kGroup) {
      const auto [low, high] = MinMax(&v.x[i], kGroup);
      const float scale = (high - low) / 15;
      NearestErrors(&v.x[i], kGroup, {scale, std::nearbyint(-low / scale), 15}, &v.out[i]);
    }
  });
}

void BM_NearestErrors(benchmark::State& state) {
  Report(state, 8,
         [](int64_t n, Vectors& v) { NearestErrors(v.x.data(), n, kAffine, v.out.data()); });
}

void BM_NearestCodes(benchmark::State& state) {
  Report(state, 5,
         [](int64_t n, Vectors& v) { NearestCodes(v.x.data(), n, kAffine, v.bytes.data()); });
}

void BM_Multiply(benchmark::State& state) {
  Report(state, 12,
         [](int64_t n, Vectors& v) { Multiply(v.x.data(), v.y.data(), n, v.out.data()); });
}

void BM_Dot(benchmark::State& state) {
  Report(state, 8,
         [](int64_t n, Vectors& v) { benchmark::DoNotOptimize(Dot(v.x.data(), v.y.data(), n)); });
}

void BM_AddBinnedRows(benchmark::State& state) {
  Report(state, 20, [](int64_t n, Vectors& v) {
    static const std::vector<int32_t> exponents((1 << 24) / kMostBinnedColumns);
    static const std::vector<double> bounds(kMostBinnedColumns);
    AddBinnedRows({v.x.data(), n / kMostBinnedColumns, kMostBinnedColumns, kMostBinnedColumns,
                   exponents.data(), bounds.data(), 0, false},
                  v.totals.data(), kMostBinnedColumns);
  });
}

void BM_RoundToBf16(benchmark::State& state) {
  Report(state, 6, [](int64_t n, Vectors& v) { RoundToBf16(v.x.data(), n, v.bits.data()); });
}

void BM_WidenBf16(benchmark::State& state) {
  Report(state, 6, [](int64_t n, Vectors& v) { WidenBf16(v.bits.data(), n, v.out.data()); });
}

void BM_WidenF16(benchmark::State& state) {
  Report(state, 6, [](int64_t n, Vectors& v) { WidenF16(v.bits.data(), n, v.out.data()); });
}

void BM_SiluProduct(benchmark::State& state) {
  Report(state, 10,
         [](int64_t n, Vectors& v) { SiluProduct(v.x.data(), v.y.data(), n, v.bits.data()); });
}

void BM_NormalizeRow(benchmark::State& state) {
  Report(state, 10, [](int64_t n, Vectors& v) {
    NormalizeRow(v.x.data(), v.y.data(), n, 1e-5, v.bits.data());
  });
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("n")->Arg(1 << 14)->Arg(1 << 24)->UseManualTime();
  benchmark->Unit(benchmark::kMillisecond)->Iterations(3);
}

BENCHMARK(BM_MinMax)->Apply(Sizes);
BENCHMARK(BM_FakeQuantize)->Apply(Sizes);
BENCHMARK(BM_NearestErrors)->Apply(Sizes);
BENCHMARK(BM_NearestCodes)->Apply(Sizes);
BENCHMARK(BM_Multiply)->Apply(Sizes);
BENCHMARK(BM_Dot)->Apply(Sizes);
BENCHMARK(BM_AddBinnedRows)->Apply(Sizes);
BENCHMARK(BM_RoundToBf16)->Apply(Sizes);
BENCHMARK(BM_WidenBf16)->Apply(Sizes);
BENCHMARK(BM_WidenF16)->Apply(Sizes);
BENCHMARK(BM_SiluProduct)->Apply(Sizes);
BENCHMARK(BM_NormalizeRow)->Apply(Sizes);

}  // namespace
}  // namespace salient::bench

BENCHMARK_MAIN();
