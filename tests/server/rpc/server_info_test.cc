// Checks what the server says of itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/model/families/family.h"
#include "server/calls/call_registry.h"
#include "server/rpc/convert/job_spec.h"
#include "server/rpc/convert/tensors.h"

namespace salient {
namespace {

using ::testing::StartsWith;

// What the server says it has, it takes; what it does not say, it refuses.
TEST(ServerInfoTest, TellsTheTruthAboutMethods) {
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
                m.mutable_format()->set_symmetric(true);  // Every layout holds such.
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

// What it says of a family is what a config.json of it says: one that says no more lacks a size.
TEST(ServerInfoTest, NamesEveryFamilyAsItsConfigDoes) {
  const v1::GetServerInfoResponse info = ToServerInfo(CallRegistry::Settings(), "1.2.3", "1.51");
  std::set<std::string> architectures;
  for (const v1::ModelFamily& known : info.families()) {
    architectures.insert(known.architecture());
    const std::string config = absl::StrCat("{\"architectures\": [\"", known.architecture(),
                                            "\"], \"model_type\": \"", known.model_type(), "\"}");
    EXPECT_THAT(std::string(ParseModelConfig("config.json", config).status().message()),
                StartsWith("config.json: hidden_size is missing"));
  }
  EXPECT_EQ(architectures.size(), Families().size());
  EXPECT_EQ(architectures.count("LlamaForCausalLM"), 1u);
}

// Checks the same of jobs: a task that it does not name is unsupported, whatever it says.
TEST(ServerInfoTest, TellsTheTruthAboutTasks) {
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
