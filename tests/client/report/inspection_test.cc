#include "client/report/inspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "client/options/engine.h"
#include "client/options/enum_text.h"
#include "core/config/json.h"

namespace salient::client {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

v1::Inspection SomeInspection() {
  v1::Inspection inspection;
  inspection.set_architecture("LlamaForCausalLM");
  inspection.set_quant_method("awq");
  inspection.mutable_format()->set_bits(4);
  inspection.mutable_format()->set_group_size(128);
  inspection.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_AWQ_GEMM);
  inspection.set_parameters(8'000'000);
  inspection.set_bytes(5 << 20);
  inspection.set_quantized_linears(28);
  v1::FormatCount& count = *inspection.add_formats();
  *count.mutable_format() = inspection.format();
  count.set_linears(28);
  v1::EngineVerdict& vllm = *inspection.add_engines();
  vllm.set_engine(v1::ENGINE_VLLM);
  vllm.set_version("0.32");
  vllm.set_loads(true);
  v1::EngineVerdict& tgi = *inspection.add_engines();
  tgi.set_engine(v1::ENGINE_TGI);
  tgi.add_reasons("group_size is -1");
  tgi.add_reasons("rows\x1b[2J");
  return inspection;
}

TEST(InspectionReportTest, TheTableHasALineAnEngineAndALineAReason) {
  const std::string table = InspectionTable("dir", SomeInspection());
  EXPECT_THAT(table,
              AllOf(HasSubstr("LlamaForCausalLM"), HasSubstr("awq-gemm, 4 bit, group 128"),
                    HasSubstr("8.00 M"), HasSubstr("28 of 28"), HasSubstr("vllm    0.32   yes"),
                    HasSubstr("tgi            no     group_size is -1"), HasSubstr("rows [2J"),
                    Not(HasSubstr("\x1b"))));
}

TEST(InspectionReportTest, AMixedCheckpointHasALineAFormat) {
  v1::Inspection mixed = SomeInspection();
  EXPECT_THAT(InspectionTable("dir", mixed), Not(HasSubstr("mixed")));
  mixed.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_GPTQ);
  mixed.mutable_format()->set_symmetric(true);
  mixed.clear_formats();
  for (const int bits : {4, 8}) {
    v1::FormatCount& count = *mixed.add_formats();
    *count.mutable_format() = mixed.format();
    count.mutable_format()->set_bits(bits);
    count.set_linears(bits == 4 ? 27 : 1);
  }
  EXPECT_THAT(InspectionTable("dir", mixed),
              AllOf(HasSubstr("gptq, mixed"), HasSubstr("4 bit, group 128, symmetric: 27 Linears"),
                    HasSubstr("8 bit, group 128, symmetric: 1 Linear\n")));
  const auto json = ParseJson("output", InspectionJson("dir", mixed));
  ASSERT_TRUE(json.ok()) << json.status();
  const JsonValue::Array& formats = *json->Find("formats")->AsArray();
  ASSERT_EQ(formats.size(), 2u);
  EXPECT_EQ(formats[1].Find("bits")->AsInt64(), 8);
  EXPECT_EQ(formats[1].Find("linears")->AsInt64(), 1);
}

TEST(InspectionReportTest, JsonHasEveryField) {
  const auto json = ParseJson("output", InspectionJson("dir", SomeInspection()));
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*json->Find("model")->AsString(), "dir");
  EXPECT_EQ(*json->Find("format")->Find("output_format")->AsString(), "awq-gemm");
  EXPECT_EQ(*json->Find("format")->Find("activations")->AsString(), "none");
  EXPECT_EQ(json->Find("quantized_linears")->AsInt64(), 28);
  const JsonValue::Array& engines = *json->Find("engines")->AsArray();
  ASSERT_EQ(engines.size(), 2u);
  EXPECT_TRUE(*engines[0].Find("loads")->AsBool());
  EXPECT_EQ(*engines[0].Find("version")->AsString(), "0.32");
  EXPECT_EQ(*engines[1].Find("engine")->AsString(), "tgi");
  EXPECT_EQ(engines[1].Find("reasons")->AsArray()->size(), 2u);
  v1::Inspection plain = SomeInspection();
  plain.clear_format();
  EXPECT_EQ(ParseJson("output", InspectionJson("dir", plain))->Find("format"), nullptr);
}

TEST(EngineOptionsTest, NamesAreThoseOfTheContract) {
  v1::QuantizeTask task;
  EXPECT_TRUE(AddEngines({FlagTexts<v1::Engine>(), 2}, task).ok());
  EXPECT_THAT(task.engines(), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(task.tensor_parallel(), 2);
  for (const int engine : task.engines()) {
    EXPECT_THAT(EngineText(static_cast<v1::Engine>(engine)), Not(HasSubstr("engine")));
  }
  EXPECT_EQ(EngineText(static_cast<v1::Engine>(99)), "engine 99");
  const absl::Status unknown = AddEngines({{"best"}, 1}, task);
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()), AllOf(HasSubstr("best"), HasSubstr("llama-cpp")));
}

}  // namespace
}  // namespace salient::client
