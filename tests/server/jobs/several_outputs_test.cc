// Tests jobs with several results.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/tensor/stored_format.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "tests/server/jobs/output_fixture.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using testing::DigestsOf;
using testing::JobBench;
using testing::kAwq;
using testing::kPlain;
using testing::Must;
using testing::Stored;

using SeveralOutputsTest = testing::OutputTest;

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
  // Calibrated once: three blocks, three rows of 20 tokens.
  EXPECT_EQ(bench_.table().GetStats().tokens_total - tokens_before, 3 * 3 * 20);
  for (const ResultFile& file : all.files) {
    EXPECT_EQ(DigestOf(bench_.Read(file)), file.digest) << file.name;
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
  EXPECT_LT(both.flop, one.flop + other.flop);  // There is one forward pass.
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
      const std::string name =
          bench.Submit(Spec({Stored(kAwq), Stored(kPlain, 3)}, "out", limit)).name;
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

}  // namespace
}  // namespace salient
