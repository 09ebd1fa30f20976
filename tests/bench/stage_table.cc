#include "tests/bench/stage_table.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/terminal/json_text.h"
#include "client/terminal/table.h"
#include "core/cost/work_count.h"
#include "core/linalg/gemm.h"
#include "tests/bench/machine_peaks.h"

namespace salient::bench {
namespace {

using client::JsonObject;
using client::Table;

constexpr const char* kNames[kStages] = {"other",        "read",  "forward",  "statistics",
                                         "scale_search", "range", "rounding", "loss",
                                         "pack",         "write"};

double Over(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

double ByteRate(Stage stage, const MachinePeaks& peaks) {
  if (stage == Stage::kRead) return peaks.read_bytes;
  if (stage == Stage::kWrite) return peaks.write_bytes;
  return peaks.memory_bytes;
}

std::string Number(double value, int digits = 2) {
  return value > 0 ? absl::StrFormat("%.*f", digits, value) : "-";
}

std::string Ratio(double value, double floor) {
  return floor > 1e-9 && value > 0 ? absl::StrFormat("%.2f", value / floor) : "-";
}

double Busy(const RunResult& run) {
  double sum = 0;
  for (const StageTime& time : run.stages) sum += time.busy_seconds;
  return sum;
}

std::string PeakLine(const char* what, const GemmPeak& before, const GemmPeak& after) {
  return absl::StrFormat("%s: %s product %.0f, %.0f GFLOP/s (%s)", what, Name(before.dtype),
                         before.flop / 1e9, after.flop / 1e9, before.implementation);
}

std::string PeaksText(const RunResult& run) {
  std::string text = "peaks of a core before and after the run:\n";
  for (const Stage stage :
       {Stage::kForward, Stage::kStatistics, Stage::kScaleSearch, Stage::kRange}) {
    const StagePeaks& before = run.before.stages[static_cast<size_t>(stage)];
    const StagePeaks& after = run.after.stages[static_cast<size_t>(stage)];
    absl::StrAppend(&text,
                    absl::StrFormat("  %-12s [%d, %d] x [%d, %d]  ", StageName(stage), before.m,
                                    before.k, before.k, before.n),
                    PeakLine("bf16", before.bf16, after.bf16), "; ",
                    PeakLine("f32", before.f32, after.f32), "\n");
  }
  absl::StrAppendFormat(&text,
                        "  memory %.1f, %.1f GB/s a core; files read %.2f, %.2f and written "
                        "%.2f, %.2f GB/s\n",
                        run.before.memory_bytes / 1e9, run.after.memory_bytes / 1e9,
                        run.before.read_bytes / 1e9, run.after.read_bytes / 1e9,
                        run.before.write_bytes / 1e9, run.after.write_bytes / 1e9);
  return text;
}

JsonObject PeakJson(const GemmPeak& before, const GemmPeak& after) {
  return JsonObject()
      .AddNumber("before", before.flop)
      .AddNumber("after", after.flop)
      .AddString("dtype", before.flop > 0 ? Name(before.dtype) : "")
      .AddString("implementation", before.implementation);
}

}  // namespace

std::string StageName(Stage stage) { return kNames[static_cast<size_t>(stage)]; }

Floors FloorsOf(const RunResult& run) {
  const MachinePeaks peaks = Mean(run.before, run.after);
  Floors floors;
  for (size_t i = 0; i < kStages; ++i) {
    const Work& work = run.cost.stages[i];
    floors.stages[i] = Over(work.bf16_flop, peaks.stages[i].bf16.flop) +
                       Over(work.f32_flop, peaks.stages[i].f32.flop) +
                       Over(work.bytes, ByteRate(static_cast<Stage>(i), peaks));
    floors.total += floors.stages[i];
  }
  return floors;
}

std::string StageTable(const RunRequest& request, const RunResult& run) {
  const Floors floors = FloorsOf(run);
  Table table({{"stage", Table::Align::kLeft},
               {"busy core-s"},
               {"wall s"},
               {"bf16 GFLOP"},
               {"f32 GFLOP"},
               {"GB"},
               {"floor core-s"},
               {"busy/floor"}});
  const auto add = [&](const std::string& name, double busy, double wall, const Work& work,
                       double floor) {
    table.AddRow({name, Number(busy), Number(wall), Number(work.bf16_flop / 1e9, 1),
                  Number(work.f32_flop / 1e9, 1), Number(work.bytes / 1e9), Number(floor, 3),
                  Ratio(busy, floor)});
  };
  for (size_t i = 0; i < kStages; ++i) {
    const StageTime& time = run.stages[i];
    add(kNames[i], time.busy_seconds, time.wall_seconds, run.cost.stages[i], floors.stages[i]);
  }
  add("all", Busy(run), run.wall_seconds, run.cost.Total(), floors.total);
  const double floor_wall = floors.total / request.workers;
  std::string text =
      absl::StrFormat("%s, %d layers, %d x %d tokens, %d workers, %s\n\n", request.shape.name,
                      request.shape.config.num_hidden_layers, request.rows, request.tokens,
                      request.workers, InstructionPath());
  absl::StrAppend(&text, table.Render(), "\n", PeaksText(run));
  absl::StrAppendFormat(
      &text,
      "wall %.2f s over a floor of %.2f s: %.2f; server's CPU %.2f s: %.2f of the "
      "floor; estimated %.2f s\n",
      run.wall_seconds, floor_wall, run.wall_seconds / floor_wall, run.cpu_seconds,
      run.cpu_seconds / floors.total, run.estimated_seconds);
  absl::StrAppend(&text, "peak RSS of the server ", client::FormatBytes(run.peak_resident_bytes),
                  ", result ", client::FormatBytes(run.output_bytes), ", loss/RTN ",
                  absl::StrFormat("%.3f", run.mean_loss_ratio), "\n");
  return text;
}

JsonObject StageJson(const RunRequest& request, const RunResult& run) {
  const Floors floors = FloorsOf(run);
  std::vector<JsonObject> stages;
  for (size_t i = 0; i < kStages; ++i) {
    const Work& work = run.cost.stages[i];
    stages.push_back(
        JsonObject()
            .AddString("stage", kNames[i])
            .AddNumber("busy_seconds", run.stages[i].busy_seconds)
            .AddNumber("wall_seconds", run.stages[i].wall_seconds)
            .AddNumber("bf16_flop", work.bf16_flop)
            .AddNumber("f32_flop", work.f32_flop)
            .AddNumber("elementwise_operations", work.vector_flop)
            .AddNumber("bytes", work.bytes)
            .AddNumber("floor_core_seconds", floors.stages[i])
            .AddObject("peak_bf16", PeakJson(run.before.stages[i].bf16, run.after.stages[i].bf16))
            .AddObject("peak_f32", PeakJson(run.before.stages[i].f32, run.after.stages[i].f32)));
  }
  const double floor_wall = floors.total / request.workers;
  return JsonObject()
      .AddString("shape", request.shape.name)
      .AddInteger("layers", request.shape.config.num_hidden_layers)
      .AddInteger("rows", request.rows)
      .AddInteger("tokens", request.tokens)
      .AddInteger("workers", request.workers)
      .AddString("instruction_path", InstructionPath())
      .AddString("onednn", OneDnnVersion())
      .AddNumber("wall_seconds", run.wall_seconds)
      .AddNumber("cpu_seconds", run.cpu_seconds)
      .AddNumber("busy_seconds", Busy(run))
      .AddNumber("floor_wall_seconds", floor_wall)
      .AddNumber("wall_over_floor", run.wall_seconds / floor_wall)
      .AddNumber("cpu_over_floor", run.cpu_seconds / floors.total)
      .AddNumber("estimated_seconds", run.estimated_seconds)
      .AddInteger("peak_rss_bytes", run.peak_resident_bytes)
      .AddInteger("output_bytes", run.output_bytes)
      .AddNumber("mean_loss_ratio", run.mean_loss_ratio)
      .AddNumber("memory_bytes_per_second", Mean(run.before, run.after).memory_bytes)
      .AddNumber("read_bytes_per_second", Mean(run.before, run.after).read_bytes)
      .AddNumber("write_bytes_per_second", Mean(run.before, run.after).write_bytes)
      .AddArray("stages", stages);
}

}  // namespace salient::bench
