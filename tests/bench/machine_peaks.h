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

// The fastest way to one product, or to what stands in for it where the CPU cannot multiply so.
struct GemmPeak {
  double flop = 0;             // a second and core
  DType dtype = DType::kF32;   // of its factors
  std::string implementation;  // "brg:avx512_core_bf16, packed"
};

struct StagePeaks {
  int64_t m = 0, n = 0, k = 0;  // the shape of most of the stage's products
  GemmPeak bf16;
  GemmPeak f32;
};

struct MachinePeaks {
  std::array<StagePeaks, kStages> stages;  // by Stage; all 0 where nothing is multiplied
  double memory_bytes =
      0;                  // a second and core, of a copy of more than caches hold: read and written
  double read_bytes = 0;  // a second, from files as the cache of the system holds them
  double write_bytes = 0;  // a second, to a file, synced
};

// On `workers` threads at once, each in its own CPU time: what others do on this machine at this
// moment slows a thread down little. Files are made in `directory` and removed; `model` is a file
// to read. A model of this config, calibrated with rows of `tokens`.
absl::StatusOr<MachinePeaks> MeasurePeaks(const ModelConfig& config, int64_t tokens, int workers,
                                          const std::string& directory, const std::string& model);

// The mean of two measurements.
MachinePeaks Mean(const MachinePeaks& before, const MachinePeaks& after);

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_MACHINE_PEAKS_H_
