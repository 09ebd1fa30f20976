// Runs a model through a real server, and tells what it took.
#ifndef SALIENT_TESTS_BENCH_MODEL_RUN_H_
#define SALIENT_TESTS_BENCH_MODEL_RUN_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/terminal/interrupt.h"
#include "core/cost/model_cost.h"
#include "core/parallel/executor.h"
#include "tests/bench/machine_peaks.h"
#include "tests/bench/model_shape.h"

namespace salient::bench {

struct RunRequest {
  ModelShape shape;
  int64_t rows = 60;
  int64_t tokens = 512;
  int workers = 2;
  // It holds the checkpoint, the token file, the server's store and the result.
  std::string directory;
  std::string salientd;
  std::string instruction_set = "native";  // The server is limited to it.
  bool progress = true;                    // It goes to standard error.
};

struct StageTime {
  double busy_seconds = 0;  // It sums over workers.
  double wall_seconds = 0;  // It is that of the thread that runs the job.
};

struct RunResult {
  // They stand by Stage; 0 says that the server does not tell.
  std::array<StageTime, kStages> stages;
  ModelCost cost;
  MachinePeaks before;
  MachinePeaks after;
  double wall_seconds = 0;  // It runs from the request to the result.
  double cpu_seconds = 0;   // It is that of the whole server, meanwhile.
  double estimated_seconds = 0;
  int64_t peak_resident_bytes = 0;
  int64_t output_bytes = 0;
  // It is the loss of the result over that of round-to-nearest, the mean over groups.
  double mean_loss_ratio = 0;
};

// Returns where the checkpoint of this shape lies.
std::string ModelDirectory(const RunRequest& request);

// Makes checkpoint and tokens unless they are there, starts a server, quantizes with the default
// method, and stops the server. The result is removed. Errors: of everything that takes part.
absl::StatusOr<RunResult> RunModel(const RunRequest& request, client::Interrupt& interrupt);

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_MODEL_RUN_H_
