#include "tests/bench/machine_peaks.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/file/durable_write.h"
#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/projection.h"
#include "tests/bench/bare_matmul.h"

namespace salient::bench {
namespace {

using Layout = BareMatmul::Layout;

constexpr double kSecondsOfAMeasurement = 0.04;
constexpr size_t kCopiedBytes = size_t{128} << 20;
constexpr size_t kFileBytes = size_t{256} << 20;

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Amount a second of the fastest third of calls of `piece`, which does `amount`.
double Rate(double amount, const std::function<void()>& piece) {
  piece();
  std::vector<double> seconds;
  double sum = 0;
  while (sum < kSecondsOfAMeasurement || seconds.size() < 3) {
    const double begin = ThreadSeconds();
    piece();
    seconds.push_back(std::max(1e-9, ThreadSeconds() - begin));
    sum += seconds.back();
  }
  std::sort(seconds.begin(), seconds.end());
  return amount / seconds[seconds.size() / 3];
}

// Returns the mean over `workers` threads that measure at the same time.
double OnAll(int workers, const std::function<double()>& measure) {
  std::vector<double> rates(static_cast<size_t>(workers));
  std::vector<std::thread> threads;
  for (double& rate : rates) {
    threads.emplace_back([&] {
      LimitThreadToItself();
      rate = measure();
    });
  }
  for (std::thread& thread : threads) thread.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum / static_cast<double>(workers);
}

GemmPeak PeakOf(DType factors, int64_t m, int64_t n, int64_t k, int workers) {
  GemmPeak best;
  for (const Layout layout : {Layout::kPlain, Layout::kPacked}) {
    const double rate = OnAll(workers, [=] {
      BareMatmul product(factors, layout, m, n, k);
      // Many small products are timed together: asking the clock costs, too.
      const int calls = std::max(1, static_cast<int>(2e8 / product.Flop()));
      return Rate(calls * product.Flop(), [&] {
        for (int i = 0; i < calls; ++i) product.Run();
      });
    });
    if (rate <= best.flop) continue;
    best.flop = rate;
    const BareMatmul product(factors, layout, m, n, k);
    best.dtype = product.dtype();
    best.implementation =
        absl::StrCat(product.implementation(), layout == Layout::kPacked ? ", packed" : ", plain");
  }
  return best;
}

StagePeaks ShapeFor(Stage stage, const ModelConfig& config, int64_t tokens) {
  const int64_t hidden = config.hidden_size;
  const int64_t rows = PaddedTokens(tokens);
  switch (stage) {
    case Stage::kForward:
      return {rows, config.intermediate_size, hidden, {}, {}};
    case Stage::kStatistics:
      return {256, 256, rows, {}, {}};
    case Stage::kScaleSearch:
    case Stage::kLoss:
    case Stage::kRounding:
      return {256, 256, 256, {}, {}};
    case Stage::kRange:
      return {256, 128, 128, {}, {}};
    default:
      return {};
  }
}

double CopyRate() {
  const std::vector<char> from(kCopiedBytes, 1);
  std::vector<char> to(kCopiedBytes);
  return Rate(2.0 * kCopiedBytes, [&] { std::memcpy(to.data(), from.data(), kCopiedBytes); });
}

absl::StatusOr<double> ReadRate(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, path, "open");
  std::vector<char> bytes(size_t{1} << 20);
  const double begin = WallSeconds();
  double sum = 0;
  for (ssize_t n = 1; n > 0 && sum < static_cast<double>(kFileBytes);) {
    n = pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(sum));
    sum += static_cast<double>(std::max<ssize_t>(n, 0));
  }
  close(fd);
  return sum / std::max(1e-9, WallSeconds() - begin);
}

absl::StatusOr<double> WriteRate(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/write-speed-", getpid());
  const std::vector<char> bytes(size_t{1} << 20, 1);
  const double begin = WallSeconds();
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(errno, path, "create");
  absl::Status status;
  for (size_t at = 0; at < kFileBytes && status.ok(); at += bytes.size()) {
    status = WriteAt(fd, path, static_cast<int64_t>(at), bytes.data(), bytes.size());
  }
  if (status.ok() && fsync(fd) != 0) status = FileError(errno, path, "sync");
  status = CloseAfter(fd, path, status);
  const double seconds = WallSeconds() - begin;
  unlink(path.c_str());
  if (!status.ok()) return status;
  return static_cast<double>(kFileBytes) / seconds;
}

GemmPeak Mean(const GemmPeak& a, const GemmPeak& b) {
  return {0.5 * (a.flop + b.flop), a.dtype, a.implementation};
}

}  // namespace

absl::StatusOr<MachinePeaks> MeasurePeaks(const ModelConfig& config, int64_t tokens, int workers,
                                          const std::string& directory, const std::string& model) {
  MachinePeaks peaks;
  std::map<std::tuple<int64_t, int64_t, int64_t>, StagePeaks> known;
  for (size_t i = 0; i < kStages; ++i) {
    StagePeaks peak = ShapeFor(static_cast<Stage>(i), config, tokens);
    if (peak.m == 0) continue;
    StagePeaks& measured = known[{peak.m, peak.n, peak.k}];
    if (measured.m == 0) {
      peak.bf16 = PeakOf(DType::kBF16, peak.m, peak.n, peak.k, workers);
      peak.f32 = PeakOf(DType::kF32, peak.m, peak.n, peak.k, workers);
      measured = peak;
    }
    peaks.stages[i] = measured;
  }
  peaks.memory_bytes = OnAll(workers, CopyRate);
  const absl::StatusOr<double> read = ReadRate(model);
  if (!read.ok()) return read.status();
  peaks.read_bytes = *read;
  const absl::StatusOr<double> write = WriteRate(directory);
  if (!write.ok()) return write.status();
  peaks.write_bytes = *write;
  return peaks;
}

MachinePeaks Mean(const MachinePeaks& before, const MachinePeaks& after) {
  MachinePeaks mean = before;
  for (size_t i = 0; i < kStages; ++i) {
    mean.stages[i].bf16 = Mean(before.stages[i].bf16, after.stages[i].bf16);
    mean.stages[i].f32 = Mean(before.stages[i].f32, after.stages[i].f32);
  }
  mean.memory_bytes = 0.5 * (before.memory_bytes + after.memory_bytes);
  mean.read_bytes = 0.5 * (before.read_bytes + after.read_bytes);
  mean.write_bytes = 0.5 * (before.write_bytes + after.write_bytes);
  return mean;
}

}  // namespace salient::bench
