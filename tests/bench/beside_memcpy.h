// Measures what a loop over bytes takes beside a copy of as many, alternating on one thread.
#ifndef SALIENT_TESTS_BENCH_BESIDE_MEMCPY_H_
#define SALIENT_TESTS_BENCH_BESIDE_MEMCPY_H_

#include <benchmark/benchmark.h>
#include <time.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace salient::bench {

inline double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

inline double ThreadSecondsOf(const std::function<void()>& work) {
  const double begin = ThreadSeconds();
  work();
  return ThreadSeconds() - begin;
}

// `work` reads and writes `bytes` in all; the copy reads half and writes half of them. Counters:
// GBs and copy_GBs, bytes read and written a second of the thread's own time; over_copy, how many
// times as long as the copy it takes.
inline void BesideMemcpy(benchmark::State& state, int64_t bytes,
                         const std::function<void()>& work) {
  const size_t half = static_cast<size_t>(bytes / 2);
  const std::vector<char> from(half, 1);
  std::vector<char> to(half);
  const auto copy = [&] {
    std::memcpy(to.data(), from.data(), half);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  };
  // Asking the clock must not count.
  const int calls = 1 + static_cast<int>((int64_t{64} << 20) / bytes);
  work();
  copy();
  double seconds = 0;
  double copy_seconds = 0;
  for (auto _ : state) {
    const double took = ThreadSecondsOf([&] {
      for (int i = 0; i < calls; ++i) work();
    });
    copy_seconds += ThreadSecondsOf([&] {
      for (int i = 0; i < calls; ++i) copy();
    });
    seconds += took;
    state.SetIterationTime(took);
  }
  const double moved = static_cast<double>(bytes) * calls * static_cast<double>(state.iterations());
  state.counters["GBs"] = moved / seconds / 1e9;
  state.counters["copy_GBs"] = moved / copy_seconds / 1e9;
  state.counters["over_copy"] = seconds / copy_seconds;
}

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_BESIDE_MEMCPY_H_
