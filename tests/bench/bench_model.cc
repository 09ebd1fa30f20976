// Runs a whole model through a real server and shows what each stage took beside the floor of this
// machine.
//
// README.md beside this file says more. Exit codes: 0 done, 1 failed, 2 usage.
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/json_text.h"
#include "client/terminal/table.h"
#include "core/config/json.h"
#include "core/kernels/instruction_set.h"
#include "core/linalg/instruction_limit.h"
#include "core/parallel/executor.h"
#include "tests/bench/model_run.h"
#include "tests/bench/model_shape.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/stage_table.h"

namespace salient::bench {
namespace {

struct Flags {
  std::string shape = "tiny";
  int64_t layers = 0;
  int64_t rows = 60;
  int64_t tokens = 512;
  int workers = 2;
  std::string directory = "build/bench";
  std::string salientd;
  std::string growth;
  std::string instruction_set = "native";
  bool scaling = false;
  bool keep = false;
  bool make_only = false;
  bool json = false;
};

// Returns the server beside this program in the build: <build>/salientd of
// <build>/tests/bench/bench_model.
std::string DefaultServer() {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  return self.parent_path().parent_path().parent_path() / "salientd";
}

absl::StatusOr<RunRequest> RequestOf(const Flags& flags, int64_t layers) {
  absl::StatusOr<ModelShape> shape = ShapeOf(flags.shape, layers);
  if (!shape.ok()) return shape.status();
  RunRequest request;
  request.shape = *std::move(shape);
  request.rows = flags.rows;
  request.tokens = flags.tokens;
  request.workers = flags.workers;
  request.directory = flags.directory;
  request.salientd = flags.salientd.empty() ? DefaultServer() : flags.salientd;
  request.instruction_set = flags.instruction_set;
  request.progress = !flags.json;
  return request;
}

// The runs that a mode compares, the base first.
absl::StatusOr<std::vector<RunRequest>> RequestsOf(const Flags& flags) {
  absl::StatusOr<RunRequest> base = RequestOf(flags, flags.layers);
  if (!base.ok()) return base.status();
  std::vector<RunRequest> requests = {*base};
  if (flags.growth == "tokens") {
    requests.push_back(*base);
    requests.back().rows *= 4;
  } else if (flags.growth == "layers") {
    absl::StatusOr<RunRequest> twice = RequestOf(flags, 2 * base->shape.config.num_hidden_layers);
    if (!twice.ok()) return twice.status();
    requests.push_back(*std::move(twice));
  } else if (flags.scaling) {
    requests[0].workers = 1;
    requests.push_back(*base);
    requests.back().workers = 2;
  }
  return requests;
}

double Search(const RunResult& run) {
  double sum = 0;
  for (const Stage stage : {Stage::kScaleSearch, Stage::kRange, Stage::kRounding, Stage::kLoss}) {
    sum += run.stages[static_cast<size_t>(stage)].busy_seconds;
  }
  return sum;
}

// Two runs and what became of each figure.
std::string CompareText(const std::vector<RunRequest>& requests,
                        const std::vector<RunResult>& runs) {
  client::Table table({{"run", client::Table::Align::kLeft},
                       {"wall s"},
                       {"CPU s"},
                       {"search core-s"},
                       {"forward core-s"},
                       {"peak RSS MiB"}});
  const auto row = [](const RunResult& run) {
    const double forward = run.stages[static_cast<size_t>(Stage::kForward)].busy_seconds;
    return std::vector<double>{run.wall_seconds, run.cpu_seconds, Search(run), forward,
                               static_cast<double>(run.peak_resident_bytes) / (1 << 20)};
  };
  std::vector<std::vector<double>> figures;
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunRequest& request = requests[i];
    const std::string name = absl::StrFormat("%d layers, %d x %d tokens, %d workers",
                                             request.shape.config.num_hidden_layers, request.rows,
                                             request.tokens, request.workers);
    figures.push_back(row(runs[i]));
    std::vector<std::string> cells = {name};
    for (const double figure : figures.back()) cells.push_back(absl::StrFormat("%.2f", figure));
    table.AddRow(cells);
  }
  std::vector<std::string> cells = {"second over first"};
  for (size_t k = 0; k < figures[0].size(); ++k) {
    cells.push_back(figures[0][k] > 0 ? absl::StrFormat("%.2f", figures[1][k] / figures[0][k])
                                      : "-");
  }
  table.AddRow(cells);
  return table.Render();
}

absl::Status Run(const Flags& flags) {
  // This process is limited, too, so that the floor is that of the same instructions.
  const absl::StatusOr<InstructionSet> set = ParseInstructionSet(flags.instruction_set);
  if (!set.ok()) return set.status();
  if (absl::Status limited = LimitInstructionSet(*set); !limited.ok()) return limited;
  client::Interrupt interrupt;
  const absl::StatusOr<std::vector<RunRequest>> requests = RequestsOf(flags);
  if (!requests.ok()) return requests.status();
  std::filesystem::create_directories(flags.directory);
  std::vector<RunResult> runs;
  std::vector<client::JsonObject> json;
  std::vector<std::string> made;  // These checkpoints were not there before.
  absl::Status status;
  for (const RunRequest& request : *requests) {
    if (!std::filesystem::exists(ModelDirectory(request))) made.push_back(ModelDirectory(request));
    if (flags.make_only) {
      const std::string model = ModelDirectory(request);
      const std::string tokens = model + "-tokens.safetensors";
      status = MakeCheckpoint(request.shape, model, request.workers);
      if (status.ok()) status = MakeTokens(request.shape, request.rows, request.tokens, tokens);
      if (!status.ok()) break;
      std::printf("%s\n%s\n", model.c_str(), tokens.c_str());
      continue;
    }
    absl::StatusOr<RunResult> run = RunModel(request, interrupt);
    status = run.status();
    if (!status.ok()) break;
    if (!flags.json) std::printf("%s\n", StageTable(request, *run).c_str());
    std::fflush(stdout);
    json.push_back(StageJson(request, *run));
    runs.push_back(*std::move(run));
  }
  if (!flags.keep && !flags.make_only) {
    for (const std::string& directory : made) std::filesystem::remove_all(directory);
  }
  if (!status.ok()) return status;
  if (flags.json && !json.empty()) {
    const std::string text =
        json.size() == 1 ? json[0].Text() : JsonText(client::JsonArray(json), JsonLayout::kOneLine);
    std::printf("%s\n", text.c_str());
  } else if (runs.size() > 1) {
    std::printf("%s", CompareText(*requests, runs).c_str());
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app(
      "Quantizes a model of random weights through a real salientd and prints what each "
      "stage took beside the floor of this machine");
  app.add_option("--shape", flags.shape,
                 "llama3-8b, llama3-1b, qwen2-0.5b, tiny, or the path of a config.json")
      ->capture_default_str();
  app.add_option("--layers", flags.layers, "Decoder blocks; 0: as many as the shape has")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--rows", flags.rows, "Calibration rows")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--tokens", flags.tokens, "Tokens of each row")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--workers", flags.workers, "Of the server")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--directory", flags.directory, "For the checkpoint and all else")
      ->capture_default_str();
  app.add_option("--salientd", flags.salientd, "The server; default: of this build");
  CLI::Option* growth =
      app.add_option("--growth", flags.growth,
                     "Compare two runs: 4 times the rows (tokens), or twice the layers (layers)")
          ->check(CLI::IsMember({"tokens", "layers"}));
  app.add_option("--instruction-set", flags.instruction_set,
                 "Compute with no more than this one, as salientd's flag of that name");
  app.add_flag("--scaling", flags.scaling, "Compare one worker with two")->excludes(growth);
  app.add_flag("--keep", flags.keep, "Leave the checkpoint for the next time");
  app.add_flag("--make-only", flags.make_only,
               "Only make the checkpoint and DIRECTORY/NAME-tokens.safetensors, and leave both");
  app.add_flag("--json", flags.json, "One JSON value on standard output instead of tables");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  const absl::Status status = Run(flags);
  if (status.ok()) return 0;
  const std::string message(status.message());
  std::fprintf(stderr, "bench_model: %s\n", message.c_str());
  return 1;
}

}  // namespace
}  // namespace salient::bench

int main(int argc, char** argv) { return salient::bench::Main(argc, argv); }
