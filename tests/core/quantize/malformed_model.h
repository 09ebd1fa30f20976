// Spoils a model directory before a job runs on it, and tells what the job must say: a typed error
// that names file, tensor or field, value and what was expected; and nothing emitted where all
// could be judged before any work.
#ifndef SALIENT_TESTS_CORE_QUANTIZE_MALFORMED_MODEL_H_
#define SALIENT_TESTS_CORE_QUANTIZE_MALFORMED_MODEL_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/shard_index.h"
#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/parallel/executor.h"
#include "core/quantize/quantize_model.h"
#include "core/result/outer_tensors.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/layout.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"
#include "tests/support/planned_model.h"
#include "tests/support/random_model.h"

namespace salient::testing {

namespace fs = std::filesystem;

inline constexpr char kSpoiltConfig[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 172, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"vocab_size\": 96, \"rms_norm_eps\": 1e-5, \"attention_bias\": true, "
    "\"torch_dtype\": \"bfloat16\"}";

// A model of two blocks in one file, or in several, to be spoilt before it is quantized. Group
// size 32: gate, up and down stay F16, because their 172 outputs and inputs do not fit.
class SpoiltModel {
 public:
  SpoiltModel(fs::path directory, bool sharded) : directory_(std::move(directory)) {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    WriteRandomModel(directory_, kSpoiltConfig, DType::kBF16, 3,
                     sharded ? 40'000 : kDefaultMaxShardBytes);
  }

  void ReplaceInFile(const std::string& file, const std::string& from, const std::string& to) {
    std::ifstream in(directory_ / file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::string changed = absl::StrReplaceAll(text, {{from, to}});
    ASSERT_NE(text, changed) << from;
    std::ofstream(directory_ / file, std::ios::binary) << changed;
  }
  void Config(const std::string& from, const std::string& to) {
    ReplaceInFile("config.json", from, to);
  }

  // Writes model.safetensors anew, each tensor altered or, where `change` says false, left out.
  void Tensors(const std::function<bool(NamedTensor&)>& change) {
    const Checkpoint checkpoint = *Checkpoint::Open(directory_.string());
    std::vector<NamedTensor> tensors;
    for (const std::string& name : checkpoint.TensorNames()) {
      const TensorEntry& entry = *checkpoint.Find(name)->entry;
      NamedTensor tensor{name, entry.dtype, entry.shape, *checkpoint.Read(name)};
      if (change(tensor)) tensors.push_back(std::move(tensor));
    }
    ASSERT_TRUE(
        WriteSafetensors((directory_ / "model.safetensors").string(), ToWrite(tensors), {}).ok());
  }
  void Tensor(const std::string& name, const std::function<void(NamedTensor&)>& change) {
    Tensors([&](NamedTensor& tensor) {
      if (tensor.name == name) change(tensor);
      return true;
    });
  }
  void Put(const std::string& name, int64_t element, float value) {
    Tensor(name, [&](NamedTensor& tensor) {
      const uint16_t bits = F32ToBF16(value);
      std::memcpy(tensor.data.data() + 2 * element, &bits, 2);
    });
  }

  // Does the same as Put in a model that came in F32, all of it.
  void PutWide(const std::string& name, int64_t element, float value) {
    Tensors([&](NamedTensor& tensor) {
      std::vector<float> wide(tensor.data.size() / 2);
      WidenToF32(tensor.dtype, tensor.data.data(), static_cast<int64_t>(wide.size()), wide.data());
      if (tensor.name == name) wide[static_cast<size_t>(element)] = value;
      tensor.dtype = DType::kF32;
      tensor.data.resize(4 * wide.size());
      std::memcpy(tensor.data.data(), wide.data(), tensor.data.size());
      return true;
    });
  }

  const fs::path& directory() const { return directory_; }
  std::vector<std::vector<int64_t>> calibration = {{1, 2, 3, 4, 5, 95}, {7, 8}};
  QuantizedCheckpointParams params{{4, 32, false, DType::kF16}};

 private:
  fs::path directory_;
};

class CountingSink final : public QuantizedModelSink {
 public:
  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> /*tensors*/) override {
    ++blocks;
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& /*report*/) override {
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& /*module*/,
                    const std::string& /*why*/) override {
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t count) override {
    tokens += count;
    return absl::OkStatus();
  }
  int blocks = 0;
  int64_t tokens = 0;
};

// Does what a job does with a directory, one step after the other.
inline absl::Status RunJob(const SpoiltModel& model, const fs::path& work,
                           QuantizedModelSink& sink) {
  const std::string path = (model.directory() / kConfigName).string();
  const auto text = ReadTextFile(path, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  const auto config = ParseModelConfig(path, *text);
  if (!config.ok()) return config.status();
  const auto plan = PlanQuantizedCheckpoint(testing::Planned(*config), *text, model.params);
  if (!plan.ok()) return plan.status();
  const auto checkpoint = Checkpoint::Open(model.directory().string());
  if (!checkpoint.ok()) return checkpoint.status();
  QuantizeModelParams params;
  params.method = {ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
  params.outputs[0].format = model.params.stored.format;
  params.compute = ComputeDType::kF32;
  params.work_directory = work.string();
  SerialExecutor executor;
  absl::Status status = QuantizeModel(*checkpoint, testing::Planned(*config), model.calibration,
                                      params, sink, executor);
  if (!status.ok()) return status;
  return CopyOuterTensors(
      *checkpoint, testing::Planned(*config),
      [](const TensorShape&, int64_t, absl::Span<const std::byte>) { return absl::OkStatus(); });
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

enum class Found { kBeforeAnyWork, kOnTheWay };

struct MalformedCase {
  std::string name;
  bool sharded;
  std::function<void(SpoiltModel&)> spoil;
  absl::StatusCode code;
  std::vector<std::string> names;  // The error must say them.
  Found found;
};

inline void PrintTo(const MalformedCase& test, std::ostream* out) { *out << test.name; }

class MalformedModelTest : public ::testing::TestWithParam<MalformedCase> {
 protected:
  MalformedModelTest() {
    LimitThreadToItself();
    root_ = fs::path(::testing::TempDir()) / ("malformed_model." + GetParam().name);
    fs::remove_all(root_);
    fs::create_directories(root_ / "work");
  }
  ~MalformedModelTest() override { fs::remove_all(root_); }

  // Spoils a model that was good, and expects what the case says of a job on it.
  void ExpectFault() {
    const MalformedCase& test = GetParam();
    SpoiltModel model(root_ / "model", test.sharded);
    CountingSink before;
    const absl::Status good = RunJob(model, root_ / "work", before);
    ASSERT_TRUE(good.ok()) << "before it was spoilt: " << good;
    ASSERT_EQ(before.blocks, 2);
    for (const fs::directory_entry& file : fs::directory_iterator(root_ / "work")) fs::remove(file);

    test.spoil(model);
    CountingSink after;
    const absl::Status status = RunJob(model, root_ / "work", after);
    EXPECT_EQ(status.code(), test.code) << status;
    for (const std::string& name : test.names) {
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(name));
    }
    EXPECT_LT(status.message().size(), 1000u);
    if (test.found == Found::kBeforeAnyWork) {
      EXPECT_EQ(after.tokens, 0);
      EXPECT_EQ(after.blocks, 0);
      EXPECT_TRUE(fs::is_empty(root_ / "work"));
    }
  }

 private:
  fs::path root_;
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_QUANTIZE_MALFORMED_MODEL_H_
