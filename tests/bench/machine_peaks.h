// Measures what one core of this machine does in a second when nothing is in its way.
#ifndef SALIENT_TESTS_BENCH_MACHINE_PEAKS_H_
#define SALIENT_TESTS_BENCH_MACHINE_PEAKS_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/config/model/model_config.h"
#include "core/parallel/executor.h"
#include "core/tensor/dtype.h"

namespace salient::bench {

// Is the fastest way to one product, or to what stands in for it where the CPU cannot multiply so.
struct GemmPeak {
  double flop = 0;             // It counts a second and core.
  DType dtype = DType::kF32;   // It is that of its factors.
  std::string implementation;  // It is e.g. "brg:avx512_core_bf16, packed".
};

struct StagePeaks {
  int64_t m = 0, n = 0, k = 0;  // They are the shape of most of the stage's products.
  GemmPeak bf16;
  GemmPeak f32;
};

struct MachinePeaks {
  // They stand by Stage; all are 0 where nothing is multiplied.
  std::array<StagePeaks, kStages> stages;
  // It counts a second and core, of a copy of more than caches hold: read and written.
  double memory_bytes = 0;
  // It counts a second, from files as the cache of the system holds them.
  double read_bytes = 0;
  double write_bytes = 0;  // It counts a second, to a file, synced.
};

// Measures on `workers` threads at once, each in its own CPU time: what others do on this machine
// at this moment slows a thread down little. Files are made in `directory` and removed; `model` is
// a file to read. It takes a model of this config, calibrated with rows of `tokens`.
absl::StatusOr<MachinePeaks> MeasurePeaks(const ModelConfig& config, int64_t tokens, int workers,
                                          const std::string& directory, const std::string& model);

// Returns the mean of two measurements.
MachinePeaks Mean(const MachinePeaks& before, const MachinePeaks& after);

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_MACHINE_PEAKS_H_
