#include "server/rpc/convert_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "core/numerics.h"
#include "proto/wire/crc32c.h"
#include "server/rpc/convert_job_spec.h"
#include "server/rpc/convert_method.h"
#include "server/workers/call_error.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

CallOptions Options(const v1::QuantizeTensorsOptions& options) {
  v1::QuantizeTensorsRequest request;
  *request.mutable_options() = options;
  const auto message = ToCallMessage(std::move(request));
  EXPECT_TRUE(message.ok()) << message.status();
  return std::get<CallOptions>(*message);
}

TEST(ConvertTest, UnsetOptionsAreTheContractsDefaults) {
  const CallOptions options = Options({});
  EXPECT_EQ(options.method.scale, ScaleChoice::kAwq);
  EXPECT_EQ(options.method.range, RangeChoice::kClip);
  EXPECT_EQ(options.method.rounding, RoundingChoice::kBlock);
  EXPECT_EQ(options.method.block.width, 256);
  EXPECT_EQ(options.method.block.shrinkage, 0.5f);
  EXPECT_EQ(options.method.block.descent_sweeps, 4);
  EXPECT_EQ(options.method.block.refits, 2);
  EXPECT_EQ(options.method.block.damping, 0.01f);
  EXPECT_FALSE(options.method.autoawq);
  EXPECT_EQ(options.method.gptq.damping, 0.2f);
  EXPECT_TRUE(options.method.gptq.act_order);
  EXPECT_EQ(options.method.gptq.descent_sweeps, 4);
  EXPECT_EQ(options.method.gptq.refits, 2);
  EXPECT_EQ(options.stored.format.bits, 4);
  EXPECT_EQ(options.stored.format.group_size, 128);
  EXPECT_FALSE(options.stored.format.symmetric);
  EXPECT_EQ(options.stored.output, OutputFormat::kAwqGemm);
}

TEST(ConvertTest, ZeroThatIsSetIsNotADefault) {
  v1::QuantizeTensorsOptions options;
  options.mutable_method()->mutable_block()->set_shrinkage(0);
  options.mutable_method()->mutable_block()->set_refits(0);
  options.mutable_method()->set_scale(v1::SCALE_NONE);
  options.mutable_format()->set_group_size(-1);
  options.mutable_format()->set_symmetric(true);
  options.set_seed(~uint64_t{0});
  const CallOptions converted = Options(options);
  EXPECT_EQ(converted.method.block.shrinkage, 0);
  EXPECT_EQ(converted.method.block.refits, 0);
  EXPECT_EQ(converted.method.scale, ScaleChoice::kNone);
  EXPECT_EQ(converted.stored.format.group_size, -1);
  EXPECT_TRUE(converted.stored.format.symmetric);
  EXPECT_EQ(converted.seed, ~uint64_t{0});
}

TEST(ConvertTest, GptqRoundingTakesItsFields) {
  v1::QuantizeTensorsOptions options;
  options.mutable_method()->set_rounding(v1::ROUNDING_GPTQ);
  v1::GptqRounding& gptq = *options.mutable_method()->mutable_gptq();
  gptq.set_damping(0);
  gptq.set_act_order(false);
  gptq.set_descent_sweeps(0);
  gptq.set_refits(16);
  const CallOptions converted = Options(options);
  EXPECT_EQ(converted.method.rounding, RoundingChoice::kGptq);
  EXPECT_EQ(converted.method.gptq.damping, 0);
  EXPECT_FALSE(converted.method.gptq.act_order);
  EXPECT_EQ(converted.method.gptq.descent_sweeps, 0);
  EXPECT_EQ(converted.method.gptq.refits, 16);
}

TEST(ConvertTest, SmoothQuantSearchesUnlessAlphaIsSet) {
  v1::QuantizeTensorsOptions options;
  options.mutable_method()->set_scale(v1::SCALE_SMOOTHQUANT);
  EXPECT_EQ(Options(options).method.scale, ScaleChoice::kSmoothQuant);
  EXPECT_FALSE(Options(options).method.smoothquant.alpha.has_value());
  options.mutable_method()->mutable_smoothquant()->set_alpha(0);
  EXPECT_EQ(Options(options).method.smoothquant.alpha, 0.0);
}

TEST(ConvertTest, WeightsMayBeDecodedAgainAtAnyWidth) {
  v1::QuantizeTensorsOptions options;
  options.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_DEQUANTIZED_FP16);
  for (const int bits : {2, 3, 8}) {
    options.mutable_format()->set_bits(bits);
    EXPECT_EQ(Options(options).stored.output, OutputFormat::kDequantizedFp16);
    EXPECT_EQ(Options(options).stored.format.bits, bits);
  }
}

TEST(ConvertTest, AGroupTakesEveryField) {
  v1::QuantizeTensorsRequest request;
  v1::GroupHeader& group = *request.mutable_group();
  group.set_name("g");
  group.set_in_features(64);
  group.set_activation_dtype(v1::DATA_TYPE_BF16);
  group.mutable_tied_heads()->set_head_dim(16);
  group.mutable_tied_heads()->set_query_heads_per_kv_head(2);
  for (const auto dtype : {v1::DATA_TYPE_F32, v1::DATA_TYPE_F16, v1::DATA_TYPE_BF16}) {
    auto& linear = *group.add_linears();
    linear.set_name(v1::DataType_Name(dtype));
    linear.set_dtype(dtype);
    linear.set_out_features(8);
  }
  const auto message = ToCallMessage(std::move(request));
  ASSERT_TRUE(message.ok()) << message.status();
  const auto& spec = std::get<GroupSpec>(*message);
  EXPECT_EQ(spec.name, "g");
  EXPECT_EQ(spec.in_features, 64);
  EXPECT_EQ(spec.activation_dtype, DType::kBF16);
  EXPECT_EQ(spec.tied_heads->head_dim, 16);
  EXPECT_EQ(spec.tied_heads->query_heads_per_kv_head, 2);
  ASSERT_EQ(spec.linears.size(), 3u);
  EXPECT_EQ(spec.linears[0].dtype, DType::kF32);
  EXPECT_EQ(spec.linears[1].dtype, DType::kF16);
  EXPECT_EQ(spec.linears[2].dtype, DType::kBF16);
  EXPECT_EQ(spec.linears[2].name, "DATA_TYPE_BF16");
}

TEST(ConvertTest, DataAndChecksumsArriveAsTheyAre) {
  v1::QuantizeTensorsRequest request;
  request.mutable_weight()->set_linear_index(3);
  request.mutable_weight()->mutable_chunk()->set_offset_bytes(7);
  request.mutable_weight()->mutable_chunk()->set_data("data");
  request.mutable_weight()->mutable_chunk()->set_crc32c(0);
  auto message = ToCallMessage(std::move(request));
  ASSERT_TRUE(message.ok());
  const auto& weight = std::get<WeightData>(*message);
  EXPECT_EQ(weight.linear_index, 3);
  EXPECT_EQ(weight.chunk.offset_bytes, 7);
  EXPECT_EQ(weight.chunk.data, "data");
  EXPECT_EQ(weight.chunk.crc32c, 0u) << "a checksum of 0 is a checksum";

  v1::QuantizeTensorsRequest batch;
  batch.mutable_activations()->set_data("rows");
  message = ToCallMessage(std::move(batch));
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(std::get<ActivationData>(*message).crc32c, std::nullopt);
}

struct Refused {
  const char* name;
  std::function<void(v1::QuantizeTensorsOptions&)> spoil;
  absl::StatusCode code;
  Reason reason;
  const char* field;
  const char* says;
};

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
using Message = v1::QuantizeTensorsOptions;

const Refused kRefused[] = {
    {"Scale", [](Message& m) { m.mutable_method()->set_scale(static_cast<v1::Scale>(77)); },
     kInvalid, Reason::kBadMethod, "options.method.scale", "77"},
    {"NegativeRange", [](Message& m) { m.mutable_method()->set_range(static_cast<v1::Range>(-1)); },
     kInvalid, Reason::kBadMethod, "options.method.range", "-1"},
    {"Rounding", [](Message& m) { m.mutable_method()->set_rounding(static_cast<v1::Rounding>(9)); },
     kInvalid, Reason::kBadMethod, "options.method.rounding", "9"},
    {"GptqDamping", [](Message& m) { m.mutable_method()->mutable_gptq()->set_damping(11); },
     kInvalid, Reason::kBadMethod, "options.method.gptq.damping", "0 to 10"},
    {"GptqSweeps", [](Message& m) { m.mutable_method()->mutable_gptq()->set_descent_sweeps(65); },
     kInvalid, Reason::kBadMethod, "options.method.gptq.descent_sweeps", "65"},
    {"GptqRefits", [](Message& m) { m.mutable_method()->mutable_gptq()->set_refits(-1); }, kInvalid,
     Reason::kBadMethod, "options.method.gptq.refits", "0 to 16"},
    {"GptqAsAutoAwq",
     [](Message& m) {
       m.mutable_method()->set_rounding(v1::ROUNDING_GPTQ);
       m.mutable_method()->set_autoawq(true);
     },
     kInvalid, Reason::kBadMethod, "options.method.autoawq", "ROUNDING_GPTQ"},
    {"AlphaAboveOne",
     [](Message& m) { m.mutable_method()->mutable_smoothquant()->set_alpha(1.25); }, kInvalid,
     Reason::kBadMethod, "options.method.smoothquant.alpha", "1.25"},
    {"AlphaThatIsNoNumber",
     [](Message& m) {
       m.mutable_method()->mutable_smoothquant()->set_alpha(
           std::numeric_limits<double>::quiet_NaN());
     },
     kInvalid, Reason::kBadMethod, "options.method.smoothquant.alpha", "0 to 1"},
    {"AutoawqWithSmoothQuant",
     [](Message& m) {
       m.mutable_method()->set_autoawq(true);
       m.mutable_method()->set_scale(v1::SCALE_SMOOTHQUANT);
       m.mutable_method()->set_rounding(v1::ROUNDING_NEAREST);
     },
     kInvalid, Reason::kBadMethod, "options.method.autoawq", "SCALE_AWQ"},
    {"AsymmetricGptq",
     [](Message& m) { m.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_GPTQ); }, kInvalid,
     Reason::kBadFormat, "options.format.symmetric", "gptq-v2 and compressed-tensors"},
    {"FiveBitsOfCompressedTensors",
     [](Message& m) {
       m.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_COMPRESSED_TENSORS);
       m.mutable_format()->set_bits(5);
     },
     kInvalid, Reason::kBadFormat, "options.format.bits", "dequantized-fp16 has 2 to 8"},
    {"GroupsOfIntQuantized",
     [](Message& m) {
       m.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_INT_QUANTIZED);
       m.mutable_format()->set_group_size(64);
     },
     kInvalid, Reason::kBadFormat, "options.format.group_size", "compressed-tensors has groups"},
    {"ActivationsOfAwq",
     [](Message& m) { m.mutable_format()->set_activations(v1::ACTIVATION_FORMAT_STATIC_TENSOR); },
     kInvalid, Reason::kBadFormat, "options.format.activations", "int-quantized"},
    {"UnknownActivations",
     [](Message& m) { m.mutable_format()->set_activations(static_cast<v1::ActivationFormat>(7)); },
     kInvalid, Reason::kBadFormat, "options.format.activations", "7"},
    {"WholeTensorOfAwq", [](Message& m) { m.mutable_format()->set_group_size(-2); }, kInvalid,
     Reason::kBadFormat, "options.format.group_size", "-1, one scale a row"},
    {"UnknownFormat",
     [](Message& m) { m.mutable_format()->set_output_format(static_cast<v1::OutputFormat>(80)); },
     kInvalid, Reason::kBadFormat, "options.format.output_format", "80"},
    {"ThreeBits", [](Message& m) { m.mutable_format()->set_bits(3); }, kInvalid, Reason::kBadFormat,
     "options.format.bits", "4"},
    {"OneBit", [](Message& m) { m.mutable_format()->set_bits(1); }, kInvalid, Reason::kBadFormat,
     "options.format.bits", "2 to 8"},
    {"GroupSize", [](Message& m) { m.mutable_format()->set_group_size(-3); }, kInvalid,
     Reason::kBadFormat, "options.format.group_size", "-3"},
    {"Width", [](Message& m) { m.mutable_method()->mutable_block()->set_width(0); }, kInvalid,
     Reason::kBadMethod, "options.method.block.width", "128 or 256"},
    {"Shrinkage",
     [](Message& m) {
       m.mutable_method()->mutable_block()->set_shrinkage(std::numeric_limits<float>::quiet_NaN());
     },
     kInvalid, Reason::kBadMethod, "options.method.block.shrinkage", "nan"},
    {"Damping", [](Message& m) { m.mutable_method()->mutable_block()->set_damping(-0.5f); },
     kInvalid, Reason::kBadMethod, "options.method.block.damping", "-0.5"},
    {"Sweeps", [](Message& m) { m.mutable_method()->mutable_block()->set_descent_sweeps(65); },
     kInvalid, Reason::kBadMethod, "options.method.block.descent_sweeps", "65"},
    {"Autoawq", [](Message& m) { m.mutable_method()->set_autoawq(true); }, kInvalid,
     Reason::kBadMethod, "options.method.autoawq", "ROUNDING_NEAREST"},
};

class RefusedOptionsTest : public testing::TestWithParam<Refused> {};
INSTANTIATE_TEST_SUITE_P(Options, RefusedOptionsTest, testing::ValuesIn(kRefused),
                         [](const auto& refused) { return std::string(refused.param.name); });

TEST_P(RefusedOptionsTest, NamesTheFieldTheValueAndWhatWasExpected) {
  v1::QuantizeTensorsRequest request;
  GetParam().spoil(*request.mutable_options());
  const absl::Status status = ToCallMessage(std::move(request)).status();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  const CallErrorDetails details = DetailsOf(status);
  EXPECT_EQ(Name(details.reason), Name(GetParam().reason));
  EXPECT_EQ(details.field, GetParam().field);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().says));
}

StoredFormat Stored(const v1::WeightFormat& message) {
  const auto stored = ToStoredFormat("format", message);
  EXPECT_TRUE(stored.ok()) << stored.status();
  return stored.value_or(StoredFormat());
}

TEST(ConvertTest, EachOutputFormatIsKnownAndHasItsDefaults) {
  for (const auto& [sent, expected] :
       {std::pair{v1::OUTPUT_FORMAT_UNSPECIFIED, OutputFormat::kAwqGemm},
        {v1::OUTPUT_FORMAT_AWQ_GEMM, OutputFormat::kAwqGemm},
        {v1::OUTPUT_FORMAT_GPTQ, OutputFormat::kGptq},
        {v1::OUTPUT_FORMAT_GPTQ_V2, OutputFormat::kGptqV2},
        {v1::OUTPUT_FORMAT_COMPRESSED_TENSORS, OutputFormat::kCompressedTensors},
        {v1::OUTPUT_FORMAT_SCALED_FP16, OutputFormat::kScaledFp16},
        {v1::OUTPUT_FORMAT_DEQUANTIZED_FP16, OutputFormat::kDequantizedFp16}}) {
    v1::WeightFormat message;
    message.set_output_format(sent);
    message.set_symmetric(sent == v1::OUTPUT_FORMAT_GPTQ);
    const StoredFormat stored = Stored(message);
    EXPECT_EQ(stored.output, expected) << sent;
    EXPECT_EQ(stored.format.bits, 4);
    EXPECT_EQ(stored.format.group_size, 128);
    EXPECT_EQ(stored.format.symmetric, message.symmetric());
    EXPECT_EQ(stored.format.scale_dtype, DType::kF16);
    EXPECT_EQ(stored.activations, ActivationFormat::kNone);
  }
  v1::WeightFormat message;
  message.set_output_format(v1::OUTPUT_FORMAT_INT_QUANTIZED);
  const StoredFormat stored = Stored(message);
  EXPECT_EQ(stored.output, OutputFormat::kIntQuantized);
  EXPECT_EQ(stored.format.bits, 8);
  EXPECT_EQ(stored.format.group_size, kWholeRow);
  EXPECT_TRUE(stored.format.symmetric);
  EXPECT_EQ(stored.format.scale_dtype, DType::kF32);
  EXPECT_EQ(stored.activations, ActivationFormat::kDynamicToken);
  message.set_activations(v1::ACTIVATION_FORMAT_STATIC_TENSOR);
  message.set_group_size(-2);
  EXPECT_EQ(Stored(message).activations, ActivationFormat::kStaticTensor);
  EXPECT_EQ(Stored(message).format.group_size, kWholeTensor);
}

TEST(ConvertTest, AnEmptyRequestIsOutOfOrder) {
  EXPECT_EQ(DetailsOf(ToCallMessage(v1::QuantizeTensorsRequest()).status()).reason,
            Reason::kMessageOrder);
}

TEST(ConvertTest, AWeightTypeThatIsNoFloatNamesItsLinear) {
  for (const int dtype : {0, 4, 99, -1}) {
    v1::QuantizeTensorsRequest request;
    auto& linear = *request.mutable_group()->add_linears();
    linear.set_name("model.q_proj");
    linear.set_dtype(static_cast<v1::DataType>(dtype));
    const absl::Status status = ToCallMessage(std::move(request)).status();
    EXPECT_EQ(DetailsOf(status).reason, Reason::kBadHeader);
    EXPECT_EQ(DetailsOf(status).field, "group.linears[0].dtype");
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.q_proj"));
  }
}

TEST(ConvertTest, AResultBecomesItsHeadAndItsChunks) {
  auto group = std::make_shared<FinishedGroup>();
  group->elapsed = absl::Milliseconds(1500);
  group->result.scales = {1, 2};
  group->result.report.name = "g";
  group->result.report.candidate = {false, true, 0.35, true};
  group->result.report.loss = 0.25;
  group->result.report.parameters = 1 << 20;
  group->result.report.linears.resize(1);
  group->result.report.linears[0].kept_rtn = true;
  group->result.report.notes = {"a note"};
  NamedTensor tensor{"g.qweight", DType::kI32, {2, 1}, {}};
  for (int i = 0; i < 8; ++i) tensor.data.push_back(static_cast<std::byte>('a' + i));
  group->result.tensors = {tensor};

  const v1::QuantizeTensorsResponse head = ToResponse({group, std::nullopt, {}});
  ASSERT_TRUE(head.has_group());
  EXPECT_EQ(head.group().report().name(), "g");
  EXPECT_EQ(head.group().report().candidate().ratio(), 0.35);
  EXPECT_TRUE(head.group().report().candidate().weight_aware());
  EXPECT_TRUE(head.group().report().candidate().smoothquant());
  EXPECT_EQ(head.group().report().loss(), 0.25);
  EXPECT_EQ(head.group().report().seconds(), 1.5);
  EXPECT_EQ(head.group().report().numerics_id(), NumericsId());
  EXPECT_TRUE(head.group().report().linears(0).kept_rtn());
  EXPECT_EQ(head.group().report().notes(0), "a note");
  EXPECT_EQ(head.group().scales_size(), 2);
  EXPECT_EQ(head.group().tensors(0).name(), "g.qweight");
  EXPECT_EQ(head.group().tensors(0).dtype(), v1::DATA_TYPE_I32);
  EXPECT_EQ(head.group().tensors(0).shape(0), 2);

  const v1::QuantizeTensorsResponse chunk = ToResponse({group, 0, {2, 3}});
  EXPECT_EQ(chunk.chunk().tensor_index(), 0);
  EXPECT_EQ(chunk.chunk().chunk().offset_bytes(), 2);
  EXPECT_EQ(chunk.chunk().chunk().data(), "cde");
  EXPECT_EQ(chunk.chunk().chunk().crc32c(), Crc32c("cde"));
}

// What the server says it has, it takes; what it does not say, it refuses.
TEST(ConvertTest, ServerInfoTellsTheTruthAboutMethods) {
  const v1::GetServerInfoResponse info = ToServerInfo(CallRegistry::Settings(), "1.2.3", "1.51");
  EXPECT_EQ(info.version(), "1.2.3");
  EXPECT_EQ(info.limits().max_message_bytes(), 4 << 20);
  EXPECT_EQ(info.limits().max_chunk_bytes(), 2 << 20);
  const auto takes = [](const std::function<void(v1::QuantizeTensorsOptions&)>& set) {
    v1::QuantizeTensorsRequest request;
    set(*request.mutable_options());
    return ToCallMessage(std::move(request)).ok();
  };
  const auto said = [](const auto& list, int value) {
    return std::find(list.begin(), list.end(), value) != list.end();
  };
  for (int i = 1; i < v1::Scale_ARRAYSIZE; ++i) {
    EXPECT_EQ(takes([i](auto& m) { m.mutable_method()->set_scale(static_cast<v1::Scale>(i)); }),
              said(info.scales(), i));
  }
  for (int i = 1; i < v1::Range_ARRAYSIZE; ++i) {
    EXPECT_EQ(takes([i](auto& m) { m.mutable_method()->set_range(static_cast<v1::Range>(i)); }),
              said(info.ranges(), i));
  }
  for (int i = 1; i < v1::Rounding_ARRAYSIZE; ++i) {
    EXPECT_EQ(
        takes([i](auto& m) { m.mutable_method()->set_rounding(static_cast<v1::Rounding>(i)); }),
        said(info.roundings(), i));
  }
  for (int i = 1; i < v1::OutputFormat_ARRAYSIZE; ++i) {
    EXPECT_EQ(takes([i](auto& m) {
                m.mutable_format()->set_output_format(static_cast<v1::OutputFormat>(i));
                m.mutable_format()->set_symmetric(true);  // every layout holds such
              }),
              said(info.output_formats(), i));
  }
  for (int i = 1; i < v1::ActivationFormat_ARRAYSIZE; ++i) {
    EXPECT_EQ(takes([i](auto& m) {
                m.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_INT_QUANTIZED);
                m.mutable_format()->set_activations(static_cast<v1::ActivationFormat>(i));
              }),
              said(info.activation_formats(), i));
  }
}

// The same of jobs: a task that it does not name is unsupported, whatever it says.
TEST(ConvertTest, ServerInfoTellsTheTruthAboutTasks) {
  const v1::GetServerInfoResponse info = ToServerInfo(CallRegistry::Settings(), "1.2.3", "1.51");
  for (int i = 1; i < v1::TaskKind_ARRAYSIZE; ++i) {
    v1::JobSpec spec;
    spec.mutable_model()->set_path("model");
    const std::string name =
        absl::AsciiStrToLower(absl::StripPrefix(v1::TaskKind_Name(i), "TASK_KIND_"));
    const auto* task = v1::JobSpec::descriptor()->FindFieldByName(name);
    ASSERT_NE(task, nullptr) << name;
    spec.GetReflection()->MutableMessage(&spec, task);
    const bool does = !absl::IsUnimplemented(ToJobSpec(spec).status());
    EXPECT_EQ(std::count(info.task_kinds().begin(), info.task_kinds().end(), i), does ? 1 : 0)
        << name;
  }
}

}  // namespace
}  // namespace salient
