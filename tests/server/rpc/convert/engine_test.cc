#include "server/rpc/convert/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/engines/engine.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/rpc/convert/job.h"
#include "server/rpc/convert/job_spec.h"
#include "tests/server/rpc/convert/job_spec_messages.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::QuantizeSpec;

TEST(ConvertEngineTest, EnginesAndDevicesOfATaskArrive) {
  v1::JobSpec message = QuantizeSpec();
  auto spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(std::get<QuantizeTask>(spec->task).engines.engines, IsEmpty());
  EXPECT_EQ(std::get<QuantizeTask>(spec->task).engines.tensor_parallel, 1);

  for (const v1::Engine engine : {v1::ENGINE_TGI, v1::ENGINE_VLLM, v1::ENGINE_TGI}) {
    message.mutable_quantize()->add_engines(engine);
  }
  message.mutable_quantize()->set_tensor_parallel(4);
  spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(std::get<QuantizeTask>(spec->task).engines.engines,
              ElementsAre(Engine::kTgi, Engine::kVllm));
  EXPECT_EQ(std::get<QuantizeTask>(spec->task).engines.tensor_parallel, 4);
}

TEST(ConvertEngineTest, AnInspectTaskHasDevicesAlone) {
  v1::JobSpec message;
  message.mutable_model()->set_path("model");
  message.mutable_inspect();
  auto spec = ToJobSpec(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(std::get<InspectTask>(spec->task).tensor_parallel, 1);
  message.mutable_inspect()->set_tensor_parallel(1024);
  EXPECT_EQ(std::get<InspectTask>(ToJobSpec(message)->task).tensor_parallel, 1024);
  message.mutable_inspect()->set_tensor_parallel(1025);
  const absl::Status status = ToJobSpec(message).status();
  EXPECT_EQ(DetailsOf(status).reason, Reason::kBadJob);
  EXPECT_EQ(DetailsOf(status).field, "spec.inspect.tensor_parallel");
}

TEST(ConvertEngineTest, WhatIsNoEngineNamesItsField) {
  for (const int value : {0, 8, -1}) {
    v1::JobSpec message = QuantizeSpec();
    message.mutable_quantize()->add_engines(v1::ENGINE_VLLM);
    message.mutable_quantize()->add_engines(static_cast<v1::Engine>(value));
    const absl::Status status = ToJobSpec(message).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(DetailsOf(status).field, "spec.quantize.engines[1]");
    EXPECT_THAT(std::string(status.message()), HasSubstr("a value of Engine"));
  }
  v1::JobSpec message = QuantizeSpec();
  message.mutable_quantize()->set_tensor_parallel(-2);
  EXPECT_EQ(DetailsOf(ToJobSpec(message).status()).field, "spec.quantize.tensor_parallel");
}

TEST(ConvertEngineTest, AnInspectionTakesEveryField) {
  JobSnapshot job;
  Inspection& found = job.inspection.emplace();
  found.architecture = "LlamaForCausalLM";
  found.quant_method = "compressed-tensors";
  found.stored = {{8, kWholeRow, true, DType::kF32},
                  OutputFormat::kIntQuantized,
                  ActivationFormat::kStaticTensor};
  found.formats = {{found.stored.format, 12}, {{4, 128, false, DType::kF16}, 1}};
  found.parameters = 7;
  found.bytes = 9;
  found.quantized_linears = 13;
  found.plain_linears = 1;
  found.engines = {{Engine::kTgi, {}, {"mind this"}}, {Engine::kLmdeploy, {"why"}, {"and this"}}};
  const v1::Inspection message = ToProto(job).inspection();
  EXPECT_EQ(message.architecture(), "LlamaForCausalLM");
  EXPECT_EQ(message.quant_method(), "compressed-tensors");
  EXPECT_EQ(message.format().bits(), 8);
  EXPECT_EQ(message.format().group_size(), -1);
  EXPECT_TRUE(message.format().symmetric());
  EXPECT_EQ(message.format().output_format(), v1::OUTPUT_FORMAT_INT_QUANTIZED);
  EXPECT_EQ(message.format().activations(), v1::ACTIVATION_FORMAT_STATIC_TENSOR);
  EXPECT_EQ(message.parameters(), 7);
  EXPECT_EQ(message.bytes(), 9);
  EXPECT_EQ(message.quantized_linears(), 13);
  EXPECT_EQ(message.plain_linears(), 1);
  ASSERT_EQ(message.formats_size(), 2);
  EXPECT_EQ(message.formats(0).format().bits(), 8);
  EXPECT_EQ(message.formats(0).format().activations(), v1::ACTIVATION_FORMAT_STATIC_TENSOR);
  EXPECT_EQ(message.formats(0).linears(), 12);
  EXPECT_EQ(message.formats(1).format().group_size(), 128);
  EXPECT_EQ(message.formats(1).format().output_format(), v1::OUTPUT_FORMAT_INT_QUANTIZED);
  ASSERT_EQ(message.engines_size(), 2);
  EXPECT_EQ(message.engines(0).version(), EngineVersion(Engine::kTgi));
  EXPECT_TRUE(message.engines(0).loads());
  EXPECT_THAT(message.engines(0).reasons(), ElementsAre("mind this"));
  EXPECT_EQ(message.engines(1).engine(), v1::ENGINE_LMDEPLOY);
  EXPECT_FALSE(message.engines(1).loads());
  EXPECT_THAT(message.engines(1).reasons(), ElementsAre("why", "and this"));

  found.quantized_linears = 0;
  EXPECT_FALSE(ToProto(job).inspection().has_format());
}

// A message that holds anything else is one that nobody can read.
TEST(ConvertEngineTest, AnInspectionIsReadWhateverAConfigSays) {
  const std::string half = "\xED\xA0\x80";  // as the config's "\ud800" is kept
  const std::string escaped = "\\xed\\xa0\\x80";
  JobSnapshot job;
  Inspection& found = job.inspection.emplace();
  found.architecture = "Llama" + half;
  found.quant_method = half;
  found.engines = {{Engine::kTgi, {half}, {}}};
  v1::Job message;
  ASSERT_TRUE(message.ParseFromString(ToProto(job).SerializeAsString()));
  EXPECT_EQ(message.inspection().architecture(), "Llama" + escaped);
  EXPECT_EQ(message.inspection().quant_method(), escaped);
  EXPECT_THAT(message.inspection().engines(0).reasons(), ElementsAre(escaped));
  job.warnings = {half};
  v1::CreateJobResponse created;
  ASSERT_TRUE(created.ParseFromString(ToCreated(job).SerializeAsString()));
  EXPECT_THAT(created.warnings(), ElementsAre(escaped));
  const JobEvent event{1, absl::UnixEpoch(), JobWarning{half}};
  v1::JobEvent warning;
  ASSERT_TRUE(warning.ParseFromString(ToProto(event).SerializeAsString()));
  EXPECT_EQ(warning.warning(), escaped);
}

}  // namespace
}  // namespace salient
