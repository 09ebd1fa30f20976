// Shows what a run took beside the least that this machine could have taken.
#ifndef SALIENT_TESTS_BENCH_STAGE_TABLE_H_
#define SALIENT_TESTS_BENCH_STAGE_TABLE_H_

#include <array>
#include <string>

#include "client/terminal/json_text.h"
#include "core/parallel/executor.h"
#include "tests/bench/model_run.h"

namespace salient::bench {

// Core-seconds: products at oneDNN's peak for the stage's main shape, then bytes at the speed of
// memory, or in read and write of files. Elementwise arithmetic counts for nothing.
struct Floors {
  std::array<double, kStages> stages{};  // They stand by Stage.
  double total = 0;
};

Floors FloorsOf(const RunResult& run);

// Returns e.g. "scale_search".
std::string StageName(Stage stage);

// Writes a table for people, with the peaks before and after, and one for programs.
std::string StageTable(const RunRequest& request, const RunResult& run);
client::JsonObject StageJson(const RunRequest& request, const RunResult& run);

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_STAGE_TABLE_H_
