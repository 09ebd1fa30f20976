// Measures what every byte on its way through the server pays: checksums and files, beside a copy.
// Counters: beside_memcpy.h, where a checksum reads and writes nothing, so GBs counts each byte
// twice as for a copy; payload_GBs counts it once.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/wire/crc32c.h"
#include "server/store/digest.h"
#include "tests/bench/beside_memcpy.h"

namespace salient::bench {
namespace {

void Report(benchmark::State& state, const std::function<void(const std::string&)>& work) {
  const std::string bytes(static_cast<size_t>(state.range(0)), '\x5a');
  BesideMemcpy(state, 2 * state.range(0), [&] { work(bytes); });
  state.counters["payload_GBs"] = state.counters["GBs"] / 2;
}

void BM_Sha256(benchmark::State& state) {
  Report(state, [](const std::string& bytes) { benchmark::DoNotOptimize(DigestOf(bytes)); });
}

void BM_Crc32c(benchmark::State& state) {
  Report(state, [](const std::string& bytes) { benchmark::DoNotOptimize(Crc32c(bytes)); });
}

// Writes into the cache of the system, as an upload does; the thread's own time, so not the disk's.
void BM_FileWrite(benchmark::State& state) {
  const std::string path =
      std::filesystem::temp_directory_path() / absl::StrCat("salient_bench_bytes_", getpid());
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return state.SkipWithError("cannot make a file");
  bool whole = true;
  Report(state, [&](const std::string& bytes) {
    const auto size = static_cast<ssize_t>(bytes.size());
    whole = whole && pwrite(fd, bytes.data(), bytes.size(), 0) == size;
  });
  if (!whole) state.SkipWithError("cannot write");
  close(fd);
  unlink(path.c_str());
}

void BM_FileRead(benchmark::State& state) {
  const std::string path =
      std::filesystem::temp_directory_path() / absl::StrCat("salient_bench_bytes_", getpid());
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, state.range(0)) != 0) return state.SkipWithError("no file");
  std::string to(static_cast<size_t>(state.range(0)), '\0');
  bool whole = true;
  Report(state, [&](const std::string& bytes) {
    const auto size = static_cast<ssize_t>(bytes.size());
    whole = whole && pread(fd, to.data(), to.size(), 0) == size;
  });
  if (!whole) state.SkipWithError("cannot read");
  close(fd);
  unlink(path.c_str());
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("bytes")->Arg(1 << 20)->Arg(1 << 26)->UseManualTime();
  benchmark->Unit(benchmark::kMillisecond)->Iterations(3);
}

BENCHMARK(BM_Sha256)->Apply(Sizes);
BENCHMARK(BM_Crc32c)->Apply(Sizes);
BENCHMARK(BM_FileWrite)->Apply(Sizes);
BENCHMARK(BM_FileRead)->Apply(Sizes);

}  // namespace
}  // namespace salient::bench

BENCHMARK_MAIN();
