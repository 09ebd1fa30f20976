// Quantizes a model in a directory into another one, as a plan says.
#ifndef SALIENT_TESTS_CORE_RESULT_WRITTEN_MODEL_H_
#define SALIENT_TESTS_CORE_RESULT_WRITTEN_MODEL_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/shard_index.h"
#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/quantize/quantize_model.h"
#include "core/result/outer_tensors.h"
#include "core/result/plain_dtypes.h"
#include "core/result/quantization_config.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/layout.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient::testing {

namespace fs = std::filesystem;

inline constexpr WeightFormat k4Bit32{4, 32, false, DType::kF16};

// hidden 64, q 4 x 16, k and v 2 x 16; the head is not tied, and everything has a bias.
inline std::string BiasedConfig(int64_t inner) {
  return "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, "
         "\"intermediate_size\": " +
         std::to_string(inner) +
         ", \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
         "\"vocab_size\": 96, \"rms_norm_eps\": 1e-5, \"attention_bias\": true, "
         "\"mlp_bias\": true, \"dtype\": \"bfloat16\"}";
}

inline std::string ReadFile(const fs::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

inline fs::path MakePath(const std::string& name) {
  std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(test.begin(), test.end(), '/', '.');
  return fs::path(::testing::TempDir()) / (test + "." + name);
}

inline fs::path MakeDirectory(const std::string& name) {
  const fs::path path = MakePath(name);
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

// Writes what a run emits, and keeps it to compare with.
class WritingSink final : public QuantizedModelSink {
 public:
  explicit WritingSink(CheckpointWriter& writer) : writer_(writer) {}

  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> block) override {
    for (NamedTensor& tensor : block) {
      absl::Status status = writer_.WriteTensor(tensor.name, 0, tensor.data);
      if (!status.ok()) return status;
      tensors.push_back(std::move(tensor));
    }
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& report) override {
    scaled += report.candidate.identity ? 0 : 1;
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& module, const std::string& why) override {
    kept[module] = why;
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }

  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> kept;
  int scaled = 0;  // It counts groups.

 private:
  CheckpointWriter& writer_;
};

struct WrittenModel {
  QuantizedCheckpointPlan plan;
  std::vector<NamedTensor> tensors;  // They are as emitted, blocks and outer ones.
  std::map<std::string, std::string> kept;
  int scaled = 0;
};

// Quantizes the model in `source` into the directory `out`, as the plan says.
inline WrittenModel Quantize(const fs::path& source, const fs::path& out,
                             const QuantizedCheckpointParams& params, bool always_scale = false) {
  LimitThreadToItself();
  testing::ThreadExecutor executor(2);
  const SmallModel model(source.string());
  WrittenModel result;
  QuantizedCheckpointParams of_source = params;
  of_source.dtypes = PlainDTypesOf(model.checkpoint, model.plan);
  result.plan =
      Must(PlanQuantizedCheckpoint(model.plan, ReadFile(source / "config.json"), of_source));
  CheckpointWriter writer = Must(CheckpointWriter::Create(out.string()));
  for (const QuantizedFile& file : result.plan.files) {
    EXPECT_TRUE(writer.AddSafetensors(file.name, file.layout).ok());
  }
  if (!result.plan.index_json.empty()) {
    EXPECT_TRUE(writer.WriteFile(kShardIndexName, result.plan.index_json).ok());
  }
  EXPECT_TRUE(writer.WriteFile(kConfigName, result.plan.config_json).ok());
  if (!result.plan.quantize_config_json.empty()) {
    EXPECT_TRUE(writer.WriteFile(kQuantizeConfigName, result.plan.quantize_config_json).ok());
  }

  QuantizeModelParams run;
  run.method = {ScaleChoice::kAwq, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
  run.method.autoawq = always_scale;  // It knows no identity.
  run.outputs = {params.stored};
  run.work_directory = MakeDirectory("work").string();
  std::vector<std::vector<int64_t>> calibration(2);
  for (int64_t i = 0; i < 80; ++i) calibration[i % 2].push_back(i * 37 % model.config.vocab_size);
  WritingSink sink(writer);
  absl::Status status =
      QuantizeModel(model.checkpoint, model.plan, calibration, run, sink, executor);
  EXPECT_TRUE(status.ok()) << status;
  result.tensors = std::move(sink.tensors);
  result.kept = std::move(sink.kept);
  result.scaled = sink.scaled;
  status = CopyOuterTensors(
      model.checkpoint, model.plan,
      [&](const TensorShape& tensor, int64_t offset, absl::Span<const std::byte> bytes) {
        EXPECT_LE(bytes.size(), size_t{4} << 20);
        if (offset == 0) {
          result.tensors.push_back({tensor.name, tensor.dtype, tensor.shape, {}});
        }
        std::vector<std::byte>& data = result.tensors.back().data;
        EXPECT_EQ(static_cast<int64_t>(data.size()), offset);
        data.insert(data.end(), bytes.begin(), bytes.end());
        return writer.WriteTensor(tensor.name, offset, bytes);
      });
  EXPECT_TRUE(status.ok()) << status;
  status = writer.Commit();
  EXPECT_TRUE(status.ok()) << status;
  return result;
}

// Checks that what the directory holds is what was emitted, name by name, and what the plan
// foretold.
inline void CheckWritten(const fs::path& out, const WrittenModel& result) {
  const Checkpoint written = Must(Checkpoint::Open(out.string()));
  EXPECT_EQ(written.TensorNames().size(), result.tensors.size());
  for (const NamedTensor& tensor : result.tensors) {
    const auto found = written.Find(tensor.name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->entry->dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(found->entry->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(Must(written.Read(tensor.name)), tensor.data) << tensor.name;
  }
  int64_t bytes = 0;
  for (const fs::directory_entry& file : fs::directory_iterator(out)) {
    bytes += static_cast<int64_t>(file.file_size());
  }
  EXPECT_EQ(result.plan.output_bytes, bytes);
  for (const SafetensorsFile& file : written.files()) {
    EXPECT_EQ(file.header().metadata().at("format"), "pt");
  }
  std::map<std::string, std::string> planned;
  for (const KeptLinear& linear : result.plan.kept) planned[linear.module] = linear.why;
  EXPECT_EQ(planned, result.kept);
}

inline std::set<std::string> NamesWith(const std::vector<NamedTensor>& tensors,
                                       const std::string& part) {
  std::set<std::string> names;
  for (const NamedTensor& tensor : tensors) {
    const size_t at = tensor.name.find(part);
    if (at != std::string::npos) names.insert(tensor.name.substr(at + part.size()));
  }
  return names;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_CORE_RESULT_WRITTEN_MODEL_H_
