// Tests jobs that limit the relative error of their groups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/config/json.h"
#include "core/engines/engine.h"
#include "core/group/quantize_group.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "tests/server/jobs/output_fixture.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using testing::DigestsOf;
using testing::Files;
using ::testing::HasSubstr;
using testing::JobBench;
using testing::kAwq;
using testing::kPlain;
using testing::MakeModel;
using testing::Must;
using testing::Stored;

class ErrorLimitTest : public testing::OutputTest {
 protected:
  // Returns a limit that some groups of a job in this format are above.
  double MiddleError(const StoredFormat& format) {
    std::vector<double> errors;
    for (const TimedGroupReport& group : Reports(Run(Spec({format})))) {
      errors.push_back(group.report.linears[0].relative_output_error);
    }
    std::sort(errors.begin(), errors.end());
    return errors.at(errors.size() / 2);
  }
};

TEST_F(ErrorLimitTest, GroupsAboveTheLimitAreToldAndWrittenAlikeEitherWay) {
  const std::vector<StoredFormat> formats = {Stored(kAwq), Stored(kPlain)};
  const double limit = MiddleError(formats[0]);
  const auto limited = [&](const std::vector<StoredFormat>& of, const std::string& path) {
    return Run(Spec(of, path, limit));
  };
  const JobSnapshot blobs = limited(formats, "");
  const JobSnapshot written = limited(formats, "out");
  EXPECT_EQ(DigestsOf(blobs), DigestsOf(written));
  for (const ResultFile& file : blobs.files) {
    EXPECT_EQ(DigestOf(bench_.Read(file)), file.digest) << file.name;
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
  // awq-gemm has one width: what is above the limit is not quantized, and config.json lists it.
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
  const std::vector<std::string> warnings = Warnings(blobs.name);
  const auto told = [&](const std::string& text) {
    return std::count_if(warnings.begin(), warnings.end(), [&](const std::string& warning) {
      return warning.find(text) != warning.npos;
    });
  };
  EXPECT_GT(told("awq-gemm: model.layers."), 0);
  EXPECT_GT(told(" is not quantized: the relative output error of model.layers."), 0);
  EXPECT_GT(told("dequantized-fp16: model.layers."), 0);
  EXPECT_GT(told(" has 8 bits: the relative output error of model.layers."), 0);
  EXPECT_TRUE(bench_.WorkDirectoryIsEmpty());
}

TEST_F(ErrorLimitTest, ALimitThatLeavesNothingFailsTheJobAndSaysSo) {
  for (const std::string path : {"", "out"}) {
    const JobSnapshot job = bench_.Finish(bench_.Submit(Spec({Stored(kAwq)}, path, 1e-12)).name);
    EXPECT_EQ(job.state, JobState::kFailed);
    EXPECT_THAT(std::string(job.error.message()), HasSubstr("max_relative_error leaves nothing"));
    EXPECT_TRUE(fs::is_empty(Outputs()));
  }
}

TEST_F(ErrorLimitTest, AResultThatALimitOfErrorMayMakeTooLargeIsRefusedAtSubmission) {
  const auto submit = [&](JobBench& bench, double limit) {
    return bench.table().Submit(Spec({Stored(kAwq)}, "", limit), "", "", true);
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
TEST_F(ErrorLimitTest, ALimitWhoseResultsAnEngineCannotLoadIsRefusedAtSubmission) {
  const Files model = MakeModel({});
  JobSpec spec = JobBench::Quantize(JobBench::Manifest(model), tokens_);
  auto& task = std::get<QuantizeTask>(spec.task);
  task.formats = {{{4, 16, true, DType::kF16}, OutputFormat::kGptq}};
  task.engines.engines = {Engine::kTransformers};
  EXPECT_TRUE(bench_.table().Submit(spec, "", "", true).ok());
  task.max_relative_error = 0.5;
  const absl::Status status = bench_.table().Submit(spec, "", "", true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(status).field, "quantize.engines");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("where max_relative_error leads to 8 bits, the result will not load in "
                        "transformers"));
}

}  // namespace
}  // namespace salient
