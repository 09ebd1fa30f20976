// Checks what the job table says before any work: of specs, of room, and of jobs submitted twice.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "server/jobs/token_blob.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_table_fixture.h"

namespace salient {
namespace {

using testing::ExpectReason;
using testing::Files;
using testing::JobBench;
using testing::kInvalid;
using testing::MakeTokens;
using testing::Must;

using JobAdmissionTest = testing::JobTableFixture;

TEST_F(JobAdmissionTest, ValidatingOnlyLeavesNoTrace) {
  JobBench bench;
  const JobSnapshot job = Must(bench.table().Submit(Spec(), "a", "r", true));
  EXPECT_EQ(job.missing.size(), 4u);
  EXPECT_GT(job.estimate.seconds, 0);
  EXPECT_TRUE(absl::IsNotFound(bench.table().Get("jobs/a").status()));
  EXPECT_TRUE(Must(bench.table().List(0, "", {})).jobs.empty());
}

TEST_F(JobAdmissionTest, TheSameIdIsTheSameJobAndAnotherSpecIsRefused) {
  JobBench bench;
  const JobSnapshot job = Must(bench.table().Submit(Spec(), "a", "request", false));
  EXPECT_EQ(Must(bench.table().Submit(Spec(), "a", "request", false)).name, job.name);
  EXPECT_EQ(Must(bench.table().Submit(Spec(), "a", "", false)).name, job.name);
  EXPECT_EQ(Must(bench.table().Submit(Spec(), "", "request", false)).name, job.name);
  EXPECT_EQ(Must(bench.table().List(0, "", {})).jobs.size(), 1u);
  JobSpec other = Spec();
  other.serialized += "x";
  for (const auto& [id, request] : {std::pair("a", ""), std::pair("", "request")}) {
    ExpectReason(bench.table().Submit(other, id, request, false).status(),
                 absl::StatusCode::kAlreadyExists, Reason::kJobExists, "jobs/a");
  }
  EXPECT_NE(bench.Submit(other).name, bench.Submit(other).name);
}

TEST_F(JobAdmissionTest, AFullQueueAndTooMuchMemoryAreRefusedWithWhatToDo) {
  JobBench bench(1, [](JobTableSettings& settings) { settings.max_queued_jobs = 2; });
  bench.Submit(Spec());
  bench.Submit(Spec());
  const absl::Status full = bench.table().Submit(Spec(), "", "", false).status();
  ExpectReason(full, absl::StatusCode::kResourceExhausted, Reason::kQueueFull);
  EXPECT_TRUE(DetailsOf(full).retry_after.has_value());

  JobBench poor(1, [](JobTableSettings& settings) { settings.memory_bytes = 1 << 20; });
  const absl::Status memory = Refusal(poor, Spec());
  ExpectReason(memory, absl::StatusCode::kResourceExhausted, Reason::kMemory);
  EXPECT_EQ(DetailsOf(memory).quota, "memory_bytes");

  BlobStoreLimits limits;
  limits.capacity_bytes = static_cast<int64_t>(model_.at("model.safetensors").size());
  JobBench small(1, {}, limits);
  const absl::Status spool = Refusal(small, Spec());
  ExpectReason(spool, absl::StatusCode::kResourceExhausted, Reason::kSpoolFull);
  EXPECT_EQ(DetailsOf(spool).quota, "store_bytes");
}

// A GiB of tokens is two in memory. The process itself, which counts as well, may grow meanwhile.
TEST_F(JobAdmissionTest, TheEstimateKnowsOfTheTokens) {
  JobBench bench;
  const auto peak = [&](int64_t token_bytes) {
    JobSpec spec = Spec();
    std::get<QuantizeTask>(spec.task).calibration.tokens.size_bytes = token_bytes;
    return Must(bench.table().Submit(spec, "", "", true)).estimate.peak_memory_bytes;
  };
  EXPECT_GE(peak(1 << 30) - peak(1 << 20), int64_t{1900} << 20);
}

// Sizes are the client's word: their sum may be beyond what a number holds.
TEST_F(JobAdmissionTest, BlobsThatNoStoreHoldsAreRefused) {
  JobBench bench;
  ModelSource source = JobBench::Manifest(model_);
  for (ModelFile& file : source.files) {
    if (file.name == "model.safetensors") file.digest.size_bytes = INT64_MAX;
  }
  const absl::Status spool = Refusal(bench, JobBench::Quantize(source, tokens_));
  ExpectReason(spool, absl::StatusCode::kResourceExhausted, Reason::kSpoolFull);
  EXPECT_EQ(DetailsOf(spool).retry_after, std::nullopt) << "it would never succeed";
}

// What can be known before any work is said before any work.
TEST_F(JobAdmissionTest, BadModelsAreRefusedWhenTheyAreSubmitted) {
  JobBench bench;
  const auto with = [this](const std::function<void(ModelSource&)>& change) {
    ModelSource source = JobBench::Manifest(model_, true);
    change(source);
    return JobBench::Quantize(source, tokens_);
  };
  const auto file = [](ModelSource& source, const std::string& name) -> ModelFile& {
    for (ModelFile& candidate : source.files) {
      if (candidate.name == name) return candidate;
    }
    throw std::runtime_error(name);
  };
  for (const std::string& bad :
       std::vector<std::string>{"../x", "a/b", "", "..", std::string(256, 'a')}) {
    ExpectReason(Refusal(bench, with([&](ModelSource& s) { s.files[1].name = bad; })), kInvalid,
                 Reason::kBadModel, "file name");
  }
  ExpectReason(Refusal(bench, with([](ModelSource& s) { s.files.push_back(s.files[0]); })),
               kInvalid, Reason::kBadModel, "twice");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { file(s, "config.json").name = "c.json"; })),
      kInvalid, Reason::kBadModel, "config.json");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { file(s, "model.safetensors").name = "m.bin"; })),
      kInvalid, Reason::kBadModel, "model.safetensors");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { file(s, "config.json").inline_content.reset(); })),
      absl::StatusCode::kFailedPrecondition, Reason::kMissingBlob, "config.json");
  ExpectReason(
      Refusal(bench, with([&](ModelSource& s) { *file(s, "config.json").inline_content += " "; })),
      kInvalid, Reason::kDigestMismatch, "config.json");
  ExpectReason(Refusal(bench, with([&](ModelSource& s) {
                         file(s, "model.safetensors").inline_content->resize(50);
                       })),
               kInvalid, Reason::kBadModel, "model.safetensors");
  ExpectReason(Refusal(bench, with([&](ModelSource& s) {
                         file(s, "model.safetensors").digest.size_bytes += 1;
                       })),
               kInvalid, Reason::kBadModel, "model.safetensors");
  const auto config = [&](const std::string& from, const std::string& to) {
    return with([&](ModelSource& s) {
      ModelFile& json = file(s, "config.json");
      std::string& text = *json.inline_content;
      text.replace(text.find(from), from.size(), to);
      json.digest = DigestOf(text);
    });
  };
  ExpectReason(Refusal(bench, config("\"vocab_size\": 40", "\"vocab_size\": 41")), kInvalid,
               Reason::kBadModel, "model.embed_tokens.weight");
  ExpectReason(Refusal(bench, config("\"vocab_size\": 40", "\"v\": 40")), kInvalid,
               Reason::kBadModel, "vocab_size");
  ExpectReason(Refusal(bench, config("LlamaForCausalLM", "UnheardOf")),
               absl::StatusCode::kUnimplemented, Reason::kUnsupported, "UnheardOf");
  JobSpec odd = Spec();
  std::get<QuantizeTask>(odd.task).formats[0].format.group_size = 31;
  ExpectReason(Refusal(bench, odd), kInvalid, Reason::kBadModel, "31");
}

TEST_F(JobAdmissionTest, BadTokensAreRefusedOnceTheyAreHere) {
  JobBench bench;
  const std::string beyond = MakeTokens(2, 16, 60, 3);
  ASSERT_TRUE(bench.Send(beyond).ok());
  ExpectReason(Refusal(bench, JobBench::Quantize(JobBench::Manifest(model_), beyond)), kInvalid,
               Reason::kBadTokens, "expected less than 40");
  const std::string noise = "not a safetensors file";
  ASSERT_TRUE(bench.Send(noise).ok());
  ExpectReason(Refusal(bench, JobBench::Quantize(JobBench::Manifest(model_), noise)), kInvalid,
               Reason::kBadTokens);
  // Not here yet: accepted, and the job fails when they came.
  const std::string later = MakeTokens(3, 16, 60, 3);
  const std::string name = bench.Submit(JobBench::Quantize(JobBench::Manifest(model_), later)).name;
  bench.SendAll(model_);
  ASSERT_TRUE(bench.Send(later).ok());
  ExpectReason(bench.Finish(name).error, kInvalid, Reason::kBadTokens, "expected less than 40");
}

// Whoever submits it would hold up all others for seconds.
TEST_F(JobAdmissionTest, ManyTokensAreJudgedByTheJob) {
  JobBench bench;
  const std::string many = MakeTokens(4100, 2048, 60, 3);
  ASSERT_GT(static_cast<int64_t>(many.size()), kMaxSoonJudgedTokenBytes);
  SendAll(bench);
  ASSERT_TRUE(bench.Send(DigestOf(many), many, many.size(), size_t{1} << 20).ok());
  const JobSpec spec = JobBench::Quantize(JobBench::Manifest(model_), many);
  EXPECT_TRUE(bench.table().Submit(spec, "", "", /*validate_only=*/true).ok());
  ExpectReason(bench.Finish(bench.Submit(spec).name).error, kInvalid, Reason::kBadTokens,
               "expected less than 40");
}

TEST_F(JobAdmissionTest, ErrorsOfTokensNameTheirFile) {
  JobBench bench;
  const std::string beyond = MakeTokens(2, 16, 60, 3);
  ASSERT_TRUE(bench.Send(beyond).ok());
  JobSpec spec = JobBench::Quantize(JobBench::Manifest(model_), beyond);
  std::get<QuantizeTask>(spec.task).calibration.name = "dir/corpus.safetensors";
  ExpectReason(Refusal(bench, spec), kInvalid, Reason::kBadTokens,
               "dir/corpus.safetensors: row 0, position ");
}

TEST_F(JobAdmissionTest, RowsBeyondTheModelsContextAreRefusedUnlessTheyAreAllowed) {
  Files model = model_;
  std::string& config = model.at("config.json");
  config.insert(config.size() - 1, R"(, "max_position_embeddings": 15)");
  JobBench bench;
  ASSERT_TRUE(bench.Send(tokens_).ok());
  const auto refused = [&](const JobSpec& spec) {
    ExpectReason(Refusal(bench, spec), kInvalid, Reason::kBadTokens,
                 "row 0 has 16 tokens; expected at most 15, the model's max_position_embeddings");
  };
  const auto taken = [&](const JobSpec& spec) {
    const auto job = bench.table().Submit(spec, "", "", /*validate_only=*/true);
    EXPECT_TRUE(job.ok()) << job.status();
  };
  JobSpec spec = JobBench::Quantize(JobBench::Manifest(model), tokens_);
  refused(spec);
  std::get<QuantizeTask>(spec.task).calibration.allow_long_rows = true;
  taken(spec);

  EvaluateTask evaluate;
  evaluate.tokens.tokens = DigestOf(tokens_);
  spec.task = evaluate;
  refused(spec);
  std::get<EvaluateTask>(spec.task).tokens.allow_long_rows = true;
  taken(spec);

  StudyTask study;
  study.calibration.tokens = study.evaluation.tokens = DigestOf(tokens_);
  study.params.format.group_size = 16;
  spec.task = study;
  refused(spec);
  std::get<StudyTask>(spec.task).calibration.allow_long_rows = true;
  refused(spec);
  std::get<StudyTask>(spec.task).evaluation.allow_long_rows = true;
  taken(spec);
}

TEST_F(JobAdmissionTest, PathsStayBelowTheirRoots) {
  JobBench bench;
  bench.WriteModel("m", model_);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  namespace fs = std::filesystem;
  const fs::path models = bench.directory() / "models";
  const fs::path outside = bench.directory() / "outside";
  for (const auto& [name, content] : model_) testing::WriteFile(outside / name, content);
  fs::create_directory_symlink(outside, models / "link");
  fs::create_directory_symlink(models / "m", models / "inside");
  bench.WriteModel("linked", model_);
  fs::remove(models / "linked" / "tokenizer_config.json");
  fs::create_symlink(outside / "tokenizer_config.json",
                     models / "linked" / "tokenizer_config.json");
  const auto path = [this](const std::string& from, const std::string& to = "") {
    JobSpec spec = JobBench::Quantize(ModelSource{{}, from}, tokens_);
    std::get<QuantizeTask>(spec.task).output_path = to;
    return spec;
  };
  for (const std::string& bad :
       std::vector<std::string>{"../outside", "m/../../outside", "link", "absent", "m/config.json",
                                "linked", "/etc", outside.c_str()}) {
    ExpectReason(Refusal(bench, path(bad)), kInvalid, Reason::kBadPath);
  }
  for (const std::string& bad :
       std::vector<std::string>{"../x", "absent/x", ".", "..", "/", "/tmp/x", "a/../../x"}) {
    ExpectReason(Refusal(bench, path("m", bad)), kInvalid, Reason::kBadPath);
  }
  testing::WriteFile(bench.directory() / "outputs" / "full" / "file", "x");
  ExpectReason(Refusal(bench, path("m", "full")), kInvalid, Reason::kBadPath, "not empty");
  const std::string absolute = (models / "m").string();
  for (const std::string& good : std::vector<std::string>{"m", "m/", absolute, "inside"}) {
    EXPECT_TRUE(bench.table().Submit(path(good), "", "", true).ok()) << good;
  }
  JobBench rootless(1, [](JobTableSettings& settings) {
    settings.model_root.clear();
    settings.output_root.clear();
  });
  ExpectReason(Refusal(rootless, path("m")), kInvalid, Reason::kBadPath, "--model-root");
}

}  // namespace
}  // namespace salient
