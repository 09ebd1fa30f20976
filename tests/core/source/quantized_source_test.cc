#include "core/source/quantized_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/config/json.h"
#include "core/config/quantization_config.h"
#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/model/block_weights.h"
#include "core/quantize/quantize_model.h"
#include "core/source/nearest_source.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/llama_places.h"
#include "tests/core/model/small_model.h"
#include "tests/core/source/any_range.h"
#include "tests/core/source/packed_tensors.h"
#include "tests/support/altered_source.h"
#include "tests/support/planned_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::AlteredSource;
using ::testing::HasSubstr;
using testing::kIn;
using testing::kModule;
using testing::kOut;
using testing::Must;
using testing::SmallModel;
using testing::TestsDirectory;

int CodeAt(int64_t n, int64_t k) { return static_cast<int>((k + 3 * n) % 16); }
int ZeroAt(int64_t n, int64_t g) { return static_cast<int>((1 + n + 7 * g) % 16); }
float ScaleOf(int64_t n, int64_t g) { return std::ldexp(1.0f, static_cast<int>(-(2 + g + n % 4))); }

// Words [rows, outputs / 8] of value(output, row): output j of each eight sits in nibble
// {0, 4, 1, 5, 2, 6, 3, 7}[j].
template <class Value>
NamedTensor Packed(const std::string& name, int64_t rows, int64_t outputs, Value value) {
  constexpr int kNibble[] = {0, 4, 1, 5, 2, 6, 3, 7};
  std::vector<uint32_t> words(static_cast<size_t>(rows * outputs / 8));
  for (int64_t k = 0; k < rows; ++k) {
    for (int64_t n = 0; n < outputs; ++n) {
      words[k * outputs / 8 + n / 8] |= static_cast<uint32_t>(value(n, k)) << (4 * kNibble[n % 8]);
    }
  }
  NamedTensor tensor{name, DType::kI32, {rows, outputs / 8}, {}};
  for (const uint32_t word : words) {
    for (int byte = 0; byte < 4; ++byte) {
      tensor.data.push_back(static_cast<std::byte>(word >> (8 * byte)));
    }
  }
  return tensor;
}

NamedTensor Scales(int64_t groups, DType dtype) {
  NamedTensor tensor{std::string(kModule) + ".scales", dtype, {groups, kOut}, {}};
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t n = 0; n < kOut; ++n) {
      const float value = ScaleOf(n, g);
      const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
      const auto* bytes = dtype == DType::kF32 ? reinterpret_cast<const std::byte*>(&value)
                                               : reinterpret_cast<const std::byte*>(&half);
      tensor.data.insert(tensor.data.end(), bytes, bytes + SizeOf(dtype));
    }
  }
  return tensor;
}

class QuantizedSourceTest : public ::testing::Test {
 protected:
  QuantizedSourceTest()
      : model_(TestsDirectory() + "data/pocket-llama"),
        config_(model_.config),
        packed_(model_.checkpoint) {
    LimitThreadToItself();
    config_.quantization = QuantizationConfig{"awq", 4, 128, true, "gemm"};
  }

  void Pack(int64_t groups, DType scales) {
    const std::string module = kModule;
    packed_.Remove(module + ".weight");
    packed_.Put(Packed(module + ".qweight", kIn, kOut, CodeAt));
    packed_.Put(Packed(module + ".qzeros", groups, kOut, ZeroAt));
    packed_.Put(Scales(groups, scales));
  }

  static std::vector<std::byte> Read(const TensorSource& source, const std::string& tensor) {
    const TensorLocation found = Must(source.Find(tensor));
    std::vector<std::byte> bytes(static_cast<size_t>(found.entry->SizeBytes()));
    const absl::Status status = source.ReadRange(tensor, 0, absl::MakeSpan(bytes));
    EXPECT_TRUE(status.ok()) << status;
    return bytes;
  }

  absl::Status OpenError() {
    return OpenQuantizedSource(packed_, testing::Planned(config_)).status();
  }
  std::string FindError() {
    const auto source = Must(OpenQuantizedSource(packed_, testing::Planned(config_)));
    const absl::Status status = source->Find(std::string(kModule) + ".weight").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  SmallModel model_;
  ModelConfig config_;
  AlteredSource packed_;
};

TEST_F(QuantizedSourceTest, ShowsWhatTheLayoutDescribes) {
  const std::string name = std::string(kModule) + ".weight";
  for (const int64_t groups : {1, 2, 8}) {
    for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
      Pack(groups, dtype);
      config_.quantization->group_size = groups == 1 ? -1 : kIn / groups;
      const auto source = Must(OpenQuantizedSource(packed_, testing::Planned(config_)));
      const TensorLocation found = Must(source->Find(name));
      EXPECT_EQ(found.entry->dtype, DType::kF32);
      EXPECT_EQ(found.entry->shape, (std::vector<int64_t>{kOut, kIn}));
      const std::vector<std::byte> bytes = Read(*source, name);
      std::vector<float> values(kOut * kIn);
      ASSERT_EQ(bytes.size(), values.size() * 4);
      std::memcpy(values.data(), bytes.data(), bytes.size());
      for (int64_t n = 0; n < kOut; ++n) {
        for (int64_t k = 0; k < kIn; ++k) {
          const int64_t g = k / (kIn / groups);
          ASSERT_EQ(values[n * kIn + k],
                    ScaleOf(n, g) * static_cast<float>(CodeAt(n, k) - ZeroAt(n, g)))
              << n << ", " << k << " of " << groups << " groups, scales " << Name(dtype);
        }
      }
    }
  }
}

TEST_F(QuantizedSourceTest, AnyRangeIsThatOfTheWhole) {
  Pack(2, DType::kF16);
  const auto packed = Must(OpenQuantizedSource(packed_, testing::Planned(config_)));
  const auto nearest = Must(RoundToNearestSource(model_.checkpoint, model_.plan, {}));
  const std::string name = std::string(kModule) + ".weight";
  for (const TensorSource* source : {packed.get(), nearest.get()}) {
    testing::ExpectAnyRange(*source, name, Read(*source, name), 40, 5000);
  }
}

TEST_F(QuantizedSourceTest, WhatIsNotPackedIsShownAsItIs) {
  Pack(2, DType::kF16);
  const auto source = Must(OpenQuantizedSource(packed_, testing::Planned(config_)));
  for (const char* name : {"model.layers.0.self_attn.k_proj.weight", "model.norm.weight"}) {
    EXPECT_EQ(Must(source->Find(name)).entry->dtype, DType::kF16) << name;
    EXPECT_EQ(Read(*source, name), Read(model_.checkpoint, name)) << name;
  }
  const auto plain = Must(OpenQuantizedSource(model_.checkpoint, model_.plan));
  EXPECT_EQ(Read(*plain, std::string(kModule) + ".weight"),
            Read(model_.checkpoint, std::string(kModule) + ".weight"));
  EXPECT_TRUE(absl::IsNotFound(source->Find("nothing").status()));
}

TEST_F(QuantizedSourceTest, FormatsThatAreNotReadAreUnimplemented) {
  const JsonValue method(JsonValue::Object{{"quant_method", JsonValue(std::string("exl2"))}});
  config_.quantization = Must(ParseQuantizationConfig("dir/config.json", method));
  for (const absl::Status& status :
       {OpenError(), ReadInputRoundings(packed_, testing::Planned(config_)).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("dir/config.json: quantization_config.quant_method is \"exl2\""));
  }
}

TEST_F(QuantizedSourceTest, TensorsThatDoNotFitAreNamed) {
  const std::string module = kModule;
  Pack(2, DType::kF16);
  config_.quantization->group_size = 64;
  EXPECT_THAT(FindError(), HasSubstr("altered: tensor \"" + module +
                                     ".qzeros\": shape is [2, 16]; expected [4, 16]"));
  config_.quantization->group_size = 96;
  EXPECT_THAT(FindError(), HasSubstr("group_size is 96; expected -1 or a divisor of in_features"));
  config_.quantization->group_size = 0;  // then the scales tell
  EXPECT_TRUE(
      Must(OpenQuantizedSource(packed_, testing::Planned(config_)))->Find(module + ".weight").ok());
  packed_.Put(Packed(module + ".qweight", kIn / 2, kOut, CodeAt));
  EXPECT_THAT(FindError(), HasSubstr("qweight\": shape is [128, 16]; expected [256, 16]"));
  Pack(3, DType::kF16);
  EXPECT_THAT(FindError(),
              HasSubstr("scales\": shape is [3, 128]; expected in dimension 0 the groups"));
  Pack(2, DType::kF16);
  packed_.Put({module + ".scales", DType::kI32, {2, kOut}, std::vector<std::byte>(2 * kOut * 4)});
  EXPECT_THAT(FindError(), HasSubstr("dtype is I32; expected F16, BF16 or F32"));
  packed_.Put({module + ".scales", DType::kF16, {256}, std::vector<std::byte>(512)});
  EXPECT_THAT(FindError(), HasSubstr("scales\": shape is [256]"));
  packed_.Remove(module + ".scales");
  EXPECT_THAT(FindError(), HasSubstr("tensor \"" + module + ".scales\" is missing"));
}

// Takes what a run emits.
class Collector final : public QuantizedModelSink {
 public:
  explicit Collector(AlteredSource& result) : result_(result) {}
  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> tensors) override {
    for (NamedTensor& tensor : tensors) result_.Put(std::move(tensor));
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& /*report*/) override {
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& module,
                    const std::string& /*why*/) override {
    kept.push_back(module);
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }
  std::vector<std::string> kept;

 private:
  AlteredSource& result_;
};

TEST_F(QuantizedSourceTest, RoundToNearestIsWhatQuantizingWithoutChoicesWrites) {
  testing::ThreadExecutor executor(2);
  for (const int64_t group_size : {128, 32, 768}) {  // 768 holds down_proj alone.
    QuantizeModelParams params;
    params.method = {ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
    params.outputs[0].format.group_size = group_size;
    params.work_directory = ::testing::TempDir() + "round_to_nearest_source";
    std::filesystem::create_directories(params.work_directory);
    AlteredSource result(model_.checkpoint);
    for (int64_t layer = 0; layer < 4; ++layer) {
      for (size_t role = 0; role < testing::llama::kLinears; ++role) {
        result.Remove(model_.plan.blocks[layer].linears[role].name + ".weight");
      }
    }
    Collector sink(result);
    const std::vector<std::vector<int64_t>> calibration = {{1, 2, 3, 4}};
    const absl::Status status =
        QuantizeModel(model_.checkpoint, model_.plan, calibration, params, sink, executor);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(sink.kept.size(), group_size == 768 ? 24u : 0u);
    std::filesystem::remove_all(params.work_directory);

    config_.quantization->group_size = group_size;
    const auto written = Must(OpenQuantizedSource(result, testing::Planned(config_)));
    const auto nearest =
        Must(RoundToNearestSource(model_.checkpoint, model_.plan, params.outputs[0].format));
    for (int64_t layer = 0; layer < 4; ++layer) {
      const BlockWeights expected = Must(ReadBlock(*written, model_.plan, layer, executor));
      const BlockWeights found = Must(ReadBlock(*nearest, model_.plan, layer, executor));
      for (size_t role = 0; role < testing::llama::kLinears; ++role) {
        const StoredLinear& linear = found.linears[role];
        EXPECT_EQ(linear.dtype, expected.linears[role].dtype) << linear.name;
        EXPECT_EQ(linear.weight, expected.linears[role].weight) << linear.name;
      }
    }
  }
}

TEST_F(QuantizedSourceTest, RoundToNearestTakesAFormatForEachLinear) {
  const WeightFormat wide{8, 64, true};
  NearestFormats formats(4, std::vector<std::optional<WeightFormat>>(testing::llama::kLinears));
  formats[1][testing::llama::kKey] = wide;
  const auto source = Must(RoundToNearestByLinear(model_.checkpoint, model_.plan, formats));
  const auto all = Must(RoundToNearestSource(model_.checkpoint, model_.plan, wide));
  const std::string name = std::string(kModule) + ".weight";
  EXPECT_EQ(Read(*source, name), Read(*all, name));
  for (const char* other :
       {"model.layers.0.self_attn.k_proj.weight", "model.layers.1.self_attn.q_proj.weight"}) {
    EXPECT_EQ(Read(*source, other), Read(model_.checkpoint, other)) << other;
    EXPECT_NE(Read(*all, other), Read(model_.checkpoint, other)) << other;
  }
  formats[1][testing::llama::kKey]->group_size = 96;
  EXPECT_THAT(
      std::string(
          RoundToNearestByLinear(model_.checkpoint, model_.plan, formats).status().message()),
      HasSubstr("model.layers.1.self_attn.k_proj: group_size is 96"));
  formats.resize(3);
  EXPECT_EQ(RoundToNearestByLinear(model_.checkpoint, model_.plan, formats).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(QuantizedSourceTest, RoundingNothingIsRefused) {
  const absl::Status status =
      RoundToNearestSource(model_.checkpoint, model_.plan, {4, 512}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("group_size is 512"));
}

TEST_F(QuantizedSourceTest, RoundingNamesAWeightThatIsNotFinite) {
  const std::string name = std::string(kModule) + ".weight";
  NamedTensor weight{name, DType::kF16, {kOut, kIn}, Read(model_.checkpoint, name)};
  const uint16_t infinity = 0x7C00;
  std::memcpy(weight.data.data() + 2 * (5 * kIn + 7), &infinity, 2);
  packed_.Put(std::move(weight));
  const auto source = Must(RoundToNearestSource(packed_, model_.plan, {}));
  std::vector<std::byte> bytes(kOut * kIn * 4);
  const absl::Status status = source->ReadRange(name, 0, absl::MakeSpan(bytes));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(name + ": element [5, 7] is inf"));
}

}  // namespace
}  // namespace salient
