// Matrix products as the core calls them, beside oneDNN's own primitive for the same shape on the
// same thread in the same run.
//
// Counters: GFLOPs, a second of the thread's own time; bare_GFLOPs, of the faster of oneDNN's plain
// and packed layouts, whose dtype and implementation are the label; over_bare, how many times as
// long ours takes (1 is the floor).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "tests/bench/bare_matmul.h"
#include "tests/bench/beside_memcpy.h"

namespace salient::bench {
namespace {

using Layout = BareMatmul::Layout;

enum class Way { kSgemm, kBf16Plain, kBf16Packed };

std::vector<float> Numbers(int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  uint32_t state = 1;
  for (float& number : numbers) {
    state = state * 1664525u + 1013904223u;
    number = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  return numbers;
}

std::vector<uint16_t> Bf16Of(const std::vector<float>& numbers) {
  std::vector<uint16_t> bits(numbers.size());
  std::transform(numbers.begin(), numbers.end(), bits.begin(), F32ToBF16);
  return bits;
}

// A product of ours, ready to be called: A [m, k], B [n, k] and C [m, n] at these strides.
std::function<bool()> Ours(Way way, int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldc) {
  auto a = std::make_shared<std::vector<float>>(Numbers(m * lda));
  auto b = std::make_shared<std::vector<float>>(Numbers(n * k));
  auto c = std::make_shared<std::vector<float>>(static_cast<size_t>(m * ldc));
  if (way == Way::kSgemm) {
    return [=] {
      return Gemm(Op::kPlain, Op::kTransposed, m, n, k, a->data(), lda, b->data(), k, 0.0f,
                  c->data(), ldc)
          .ok();
    };
  }
  auto narrow_a = std::make_shared<std::vector<uint16_t>>(Bf16Of(*a));
  auto narrow_b = std::make_shared<std::vector<uint16_t>>(Bf16Of(*b));
  if (way == Way::kBf16Plain) {
    return [=] {
      return GemmBf16(m, n, k, narrow_a->data(), lda, narrow_b->data(), k, 0.0f, c->data(), ldc)
          .ok();
    };
  }
  auto factor =
      std::make_shared<absl::StatusOr<Bf16Factor>>(Bf16Factor::Create(narrow_b->data(), n, k, k));
  return [=] {
    return factor->ok() && (*factor)->Multiply(m, narrow_a->data(), lda, 0.0f, c->data(), ldc).ok();
  };
}

// Returns the faster layout of oneDNN's, without strides.
std::unique_ptr<BareMatmul> BestBare(DType factors, int64_t m, int64_t n, int64_t k) {
  std::unique_ptr<BareMatmul> best;
  double least = 0;
  for (const Layout layout : {Layout::kPlain, Layout::kPacked}) {
    auto bare = std::make_unique<BareMatmul>(factors, layout, m, n, k);
    bare->Run();
    const int calls = 1 + static_cast<int>(1e8 / bare->Flop());
    const double seconds = ThreadSecondsOf([&] {
      for (int i = 0; i < calls; ++i) bare->Run();
    });
    if (best != nullptr && seconds >= least) continue;
    least = seconds;
    best = std::move(bare);
  }
  return best;
}

void BM_Product(benchmark::State& state, Way way) {
  LimitThreadToItself();
  const int64_t m = state.range(0);
  const int64_t n = state.range(1);
  const int64_t k = state.range(2);
  const int64_t gap = state.range(3);
  const std::function<bool()> ours = Ours(way, m, n, k, k + gap, n + gap);
  const std::unique_ptr<BareMatmul> bare =
      BestBare(way == Way::kSgemm ? DType::kF32 : DType::kBF16, m, n, k);
  state.SetLabel(absl::StrCat(Name(bare->dtype()), " ", bare->implementation()));
  if (!ours()) return state.SkipWithError("the product failed");
  const int calls = 1 + static_cast<int>(2e8 / bare->Flop());
  double seconds = 0;
  double bare_seconds = 0;
  for (auto _ : state) {
    const double took = ThreadSecondsOf([&] {
      for (int i = 0; i < calls; ++i) benchmark::DoNotOptimize(ours());
    });
    bare_seconds += ThreadSecondsOf([&] {
      for (int i = 0; i < calls; ++i) bare->Run();
    });
    seconds += took;
    state.SetIterationTime(took);
  }
  const double flop = bare->Flop() * calls * static_cast<double>(state.iterations());
  state.counters["GFLOPs"] = flop / seconds / 1e9;
  state.counters["bare_GFLOPs"] = flop / bare_seconds / 1e9;
  state.counters["over_bare"] = seconds / bare_seconds;
}

// m, n, k and the gap between rows of A and of C: tiles of errors times blocks of a Gram; blocks of
// a Gram from a row of 512 tokens; a row of tokens times weights of the shapes that models have.
void Shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"m", "n", "k", "gap"})->UseManualTime()->Unit(benchmark::kMicrosecond);
  benchmark->Iterations(10);
  benchmark->Args({16, 64, 64, 0});
  for (const int64_t rows : {16, 64, 256}) benchmark->Args({rows, 256, 256, 0});
  benchmark->Args({256, 256, 256, 3840})->Args({256, 256, 512, 0})->Args({64, 1024, 1024, 0});
  benchmark->Args({512, 896, 896, 0})->Args({512, 4864, 896, 0})->Args({512, 2048, 2048, 0});
  benchmark->Args({512, 4096, 4096, 0})->Args({512, 4096, 14336, 0});
}

BENCHMARK_CAPTURE(BM_Product, f32_sgemm, Way::kSgemm)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_Product, bf16_plain, Way::kBf16Plain)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_Product, bf16_packed, Way::kBf16Packed)->Apply(Shapes);

}  // namespace
}  // namespace salient::bench

BENCHMARK_MAIN();
