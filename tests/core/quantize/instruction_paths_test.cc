// Runs the same model on every instruction set that this CPU has, each in a process of its
// own, beside the native one. Sums run in another order there, so results differ in their last
// bits, and where a value stands between two codes or two bfloat16 these differ. How far is one
// table, kTolerances; the test prints it beside what was measured.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "core/group/quantize_group.h"
#include "core/kernels/instruction_set.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"
#include "core/linalg/instruction_limit.h"
#include "core/model/activations.h"
#include "core/model/group_observer.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/safetensors/safetensors.h"
#include "core/statistics/accumulator.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/small_model.h"
#include "tests/support/calibration_rows.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/sanitizer.h"

namespace salient {
namespace {

using testing::Must;

enum class Measure {
  kRelative,  // It is |a - b| / |b|, the root of the sums of squares.
  kLargest,   // It is the largest |a - b| / |b| of an element.
  kUnequal,   // It is the share of elements that differ.
};

struct Tolerance {
  const char* quantity;
  Measure measure;
  double most;
};

// A few times what was measured between AVX2 and AVX-512. Half a step is 2^-24 of an f32, 2^-9 of a
// bfloat16, 2^-11 of an F16 scale; a flipped candidate changes a whole group, of which there are
// eight.
constexpr Tolerance kTolerances[] = {
    {"hidden states, f32", Measure::kRelative, 1e-5},
    {"hidden states, bf16", Measure::kRelative, 1e-3},
    {"statistics, sums", Measure::kRelative, 1e-6},
    {"statistics, Gram blocks", Measure::kRelative, 1e-6},
    {"statistics, sketch", Measure::kRelative, 1e-6},
    {"chosen ratio", Measure::kUnequal, 0.125},
    {"loss of round-to-nearest", Measure::kLargest, 1e-3},
    {"loss", Measure::kLargest, 5e-3},
    {"codes", Measure::kUnequal, 0.01},
    {"scales", Measure::kRelative, 5e-3},
};

using PathResults = std::map<std::string, std::vector<double>>;

template <class T>
void Append(const std::vector<T>& values, std::vector<double>& out) {
  out.insert(out.end(), values.begin(), values.end());
}

constexpr int kLayers = 2;
constexpr size_t kRows = 3;

std::vector<std::vector<int64_t>> CalibrationTokens() {
  const std::vector<int32_t> ids = testing::ReadAs<int32_t>(
      Must(SafetensorsFile::Open(testing::TestsDirectory() +
                                 "data/pocket-llama/calibration_open.safetensors")),
      "input_ids");
  std::vector<std::vector<int64_t>> rows;
  for (size_t r = 0; r < kRows; ++r) {
    rows.emplace_back(ids.begin() + static_cast<int64_t>(r) * 256,
                      ids.begin() + static_cast<int64_t>(r + 1) * 256);
  }
  return rows;
}

// Collects what a run emits: chosen candidates and losses by group, codes and scales of packed
// Linears.
class PathCollector final : public QuantizedModelSink {
 public:
  explicit PathCollector(PathResults& results) : results_(results) {}

  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> tensors) override {
    for (const NamedTensor& tensor : tensors) {
      if (absl::EndsWith(tensor.name, ".qweight")) {
        for (const std::byte two : tensor.data) {
          results_["codes"].push_back(static_cast<double>(two & std::byte{15}));
          results_["codes"].push_back(static_cast<double>(two >> 4));
        }
      } else if (absl::EndsWith(tensor.name, ".scales")) {
        for (size_t i = 0; i < tensor.data.size(); i += 2) {
          uint16_t bits;
          std::memcpy(&bits, tensor.data.data() + i, 2);
          results_["scales"].push_back(F16ToF32(bits));
        }
      }
    }
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& report) override {
    // Identity is no power of either kind.
    results_["chosen ratio"].push_back(report.candidate.identity
                                           ? -1
                                           : report.candidate.ratio +
                                                 (report.candidate.weight_aware ? 2 : 0));
    results_["loss of round-to-nearest"].push_back(report.loss_rtn);
    results_["loss"].push_back(report.loss);
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& module, const std::string& why) override {
    return absl::InternalError(module + " was kept: " + why);
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }

 private:
  PathResults& results_;
};

void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

void RunForward(const testing::SmallModel& model, PathResults& results) {
  SerialExecutor executor;
  for (const std::vector<int64_t>& row : CalibrationTokens()) {
    for (const ComputeDType compute : {ComputeDType::kF32, ComputeDType::kBF16}) {
      const Matrix hidden = model.Hidden(row, compute, IgnoreGroup, executor);
      Append(std::vector<float>(hidden.data(), hidden.data() + row.size() * hidden.cols()),
             results[compute == ComputeDType::kF32 ? "hidden states, f32" : "hidden states, bf16"]);
    }
  }
}

// Adds those of inputs too wide for the whole Gram.
void RunStatistics(PathResults& results) {
  constexpr int64_t kInFeatures = 1280;
  SerialExecutor executor;
  auto accumulator = Must(StatisticsAccumulator::Create("wide", {.in_features = kInFeatures}));
  for (const testing::CalibrationRow& row : testing::MakeRows(5, kInFeatures, {100, 64, 33})) {
    Check(testing::FoldF32(accumulator, row.index, 0, row.tokens.Row(0), row.tokens.rows(),
                           executor));
  }
  const testing::DirectSums statistics =
      testing::ValuesOf(Must(std::move(accumulator).Finish(executor)));
  Append(statistics.sum, results["statistics, sums"]);
  Append(statistics.sum_abs, results["statistics, sums"]);
  Append(statistics.blocks, results["statistics, Gram blocks"]);
  Append(statistics.sketch, results["statistics, sketch"]);
}

void RunQuantize(const testing::SmallModel& model, const std::string& directory,
                 PathResults& results) {
  SerialExecutor executor;
  QuantizeModelParams params;
  params.work_directory = directory;
  PathCollector collector(results);
  Check(QuantizeModel(model.checkpoint, model.plan, CalibrationTokens(), params, collector,
                      executor));
}

constexpr int kNotRun = 77;

// In a process of its own: writes results into `directory`, or why there are none.
int RunOn(InstructionSet set, const std::filesystem::path& directory) {
  std::ofstream file(directory / "results", std::ios::binary);
  if (const absl::Status limited = LimitInstructionSet(set); !limited.ok()) {
    file << limited.message();
    return kNotRun;
  }
  LimitThreadToItself();
  PathResults results;
  try {
    testing::SmallModel model(testing::TestsDirectory() + "data/pocket-llama");
    model.config.num_hidden_layers = kLayers;
    RunForward(model, results);
    RunStatistics(results);
    RunQuantize(model, directory.string(), results);
  } catch (const std::exception& error) {
    file << error.what();
    return 1;
  }
  file << InstructionPath() << "+" << KernelTarget() << '\n';
  for (const auto& [quantity, values] : results) {
    file << quantity << '\n' << values.size() << '\n';
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(double)));
  }
  file.close();
  return file ? 0 : 1;
}

struct Path {
  std::string name;  // Results name it so.
  PathResults results;
};

class InstructionPathsTest : public ::testing::Test {
 protected:
  // Nothing where the CPU has not that set; `why_` then says so.
  std::optional<Path> Run(InstructionSet set) {
    const std::filesystem::path directory =
        std::filesystem::path(::testing::TempDir()) /
        absl::StrCat("instruction_paths_test.", getpid(), ".", NameOf(set));
    std::filesystem::create_directories(directory);
    std::fflush(nullptr);
    // This process computes nothing itself and has one thread, so a copy of it starts afresh.
    const pid_t child = fork();
    if (child == 0) _exit(RunOn(set, directory));
    int state = 0;
    EXPECT_EQ(waitpid(child, &state, 0), child);
    std::ifstream file(directory / "results", std::ios::binary);
    std::optional<Path> path;
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0) {
      path.emplace();
      std::getline(file, path->name);
      for (std::string quantity, size; std::getline(file, quantity) && std::getline(file, size);) {
        std::vector<double>& values = path->results[quantity];
        values.resize(std::stoull(size));
        file.read(reinterpret_cast<char*>(values.data()),
                  static_cast<std::streamsize>(values.size() * sizeof(double)));
      }
    } else {
      std::getline(file, why_);
      EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == kNotRun)
          << NameOf(set) << " ended with state " << state << ": " << why_;
    }
    std::filesystem::remove_all(directory);
    return path;
  }

  std::string why_;
};

double Distance(Measure measure, const std::vector<double>& a, const std::vector<double>& b) {
  double differences = 0, squares = 0, largest = 0, unequal = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    differences += (a[i] - b[i]) * (a[i] - b[i]);
    squares += b[i] * b[i];
    largest = std::max(largest, std::abs(a[i] - b[i]) / std::abs(b[i]));
    unequal += a[i] == b[i] ? 0 : 1;
  }
  switch (measure) {
    case Measure::kRelative:
      return std::sqrt(differences / squares);
    case Measure::kLargest:
      return largest;
    case Measure::kUnequal:
      return unequal / static_cast<double>(b.size());
  }
  return NAN;
}

TEST_F(InstructionPathsTest, EveryPathOfThisCpuGivesTheNativeResultsWithinOneTable) {
  if (testing::kUnderSanitizer) GTEST_SKIP() << "SKIPPED: takes minutes under a sanitizer";
  if (std::getenv("SALIENT_TEST_INSTRUCTION_SET") != nullptr) {
    GTEST_SKIP() << "NOT RUN: limits processes of its own, and this one is limited already";
  }
  const std::optional<Path> native = Run(InstructionSet::kNative);
  ASSERT_TRUE(native.has_value());
  std::printf("native is %s\n", native->name.c_str());
  for (const InstructionSet set : InstructionSets()) {
    if (set == InstructionSet::kNative) continue;
    const std::optional<Path> path = Run(set);
    if (!path.has_value()) {
      std::printf("NOT RUN: %s\n", why_.c_str());
      continue;
    }
    std::printf("%s\n", path->name.c_str());
    EXPECT_TRUE(absl::StartsWith(path->name, absl::StrCat(NameOf(set), "+")));
    for (const Tolerance& tolerance : kTolerances) {
      SCOPED_TRACE(absl::StrCat(path->name, ", ", tolerance.quantity));
      const std::vector<double>& expected = native->results.at(tolerance.quantity);
      const std::vector<double>& values = path->results.at(tolerance.quantity);
      ASSERT_EQ(values.size(), expected.size());
      ASSERT_FALSE(values.empty());
      const double distance = Distance(tolerance.measure, values, expected);
      constexpr const char* kNames[] = {"relative", "largest", "unequal"};
      std::printf("  %-26s %-8s %9.2e, at most %.2e\n", tolerance.quantity,
                  kNames[static_cast<int>(tolerance.measure)], distance, tolerance.most);
      EXPECT_LE(distance, tolerance.most);
    }
  }
}

}  // namespace
}  // namespace salient
