// Checks models whose files are not what we would write, and whose results must be the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/checkpoint/shard_index.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_table_fixture.h"

namespace salient {
namespace {

using testing::AsBytes;
using testing::Bytes;
using ::testing::ElementsAre;
using testing::ExpectReason;
using testing::Files;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::JobBench;
using testing::kInvalid;
using testing::MakeModel;
using testing::MakeTokens;
using testing::Must;
using testing::TinyModel;

constexpr char kWeights[] = "model.safetensors";

std::vector<NamedTensor> TensorsOf(const std::string& file) {
  const SafetensorsView view = Must(SafetensorsView::Parse("file", AsBytes(file)));
  std::vector<NamedTensor> tensors;
  for (const TensorEntry& entry : view.header().tensors()) {
    const auto bytes = Must(view.Tensor(entry.name));
    tensors.push_back({entry.name, entry.dtype, entry.shape, {bytes.begin(), bytes.end()}});
  }
  return tensors;
}

std::string FileOf(const std::vector<NamedTensor>& tensors) {
  return Bytes(Must(SerializeSafetensors(ToWrite(tensors), {})));
}

NamedTensor Extra(const std::string& name) {
  return {name, DType::kU8, {4}, std::vector<std::byte>(4)};
}

class OddFilesTest : public testing::JobTableFixture {
 protected:
  // Returns the model with its one file's tensors changed.
  Files With(const std::function<void(std::vector<NamedTensor>&)>& change) const {
    Files files = model_;
    std::vector<NamedTensor> tensors = TensorsOf(files.at(kWeights));
    change(tensors);
    files[kWeights] = FileOf(tensors);
    return files;
  }

  struct Result {
    std::map<std::string, std::string> files;  // They hold digests by name.
    std::vector<std::string> warnings;         // They are about the source.
  };

  // Returns what becomes of it from a directory, and from blobs whose headers are inline or late.
  std::vector<Result> ResultsOf(const Files& files) const {
    std::vector<Result> results;
    for (const auto& source : {JobBench::Manifest(files, true), JobBench::Manifest(files, false),
                               ModelSource{{}, "model"}}) {
      JobBench bench;
      bench.WriteModel("model", files);
      const std::string name = bench.Submit(JobBench::Quantize(source, tokens_)).name;
      EXPECT_TRUE(bench.Send(tokens_).ok());
      bench.SendAll(files);
      const JobSnapshot job = bench.Finish(name);
      EXPECT_TRUE(job.error.ok()) << job.error;
      Result result;
      for (const ResultFile& file : job.files) result.files[file.name] = ToString(file.digest);
      for (const JobEvent& event : bench.WatchToEnd(name)) {
        const auto* warning = std::get_if<JobWarning>(&event.what);
        const bool is_of_source =
            warning != nullptr && absl::StrContains(warning->text, " of the source");
        if (is_of_source) result.warnings.push_back(warning->text);
      }
      results.push_back(std::move(result));
    }
    return results;
  }

  void ExpectSameResults(const Files& files) const {
    const std::vector<Result> plain = ResultsOf(model_);
    for (const Result& result : ResultsOf(files)) EXPECT_EQ(result.files, plain[0].files);
  }
};

TEST_F(OddFilesTest, ATensorOfF64IsReadAsF32) {
  ExpectSameResults(With([](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& tensor : tensors) {
      if (!absl::StrContains(tensor.name, "o_proj") && !absl::StrContains(tensor.name, "embed")) {
        continue;
      }
      const size_t count = tensor.data.size() / 2;
      std::vector<std::byte> wide(8 * count);
      for (size_t i = 0; i < count; ++i) {
        uint16_t half;
        std::memcpy(&half, tensor.data.data() + 2 * i, 2);
        const double value = F16ToF32(half);
        std::memcpy(wide.data() + 8 * i, &value, 8);
      }
      tensor.dtype = DType::kF64;
      tensor.data = std::move(wide);
    }
  }));
}

TEST_F(OddFilesTest, NamesWithoutPrefixAreThoseOfTheDecoder) {
  ExpectSameResults(With([](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& tensor : tensors) tensor.name = tensor.name.substr(std::strlen("model."));
  }));
}

TEST_F(OddFilesTest, AnIndexMayNameTheOneFile) {
  Files files = model_;
  files[kShardIndexName] =
      absl::StrCat(R"({"metadata": {"total_size": "7"}, "weight_map": {"model.norm.weight": ")",
                   kWeights, "\"}}");
  ExpectSameResults(files);
}

TEST_F(OddFilesTest, EqualCopiesAreTakenAndUnequalOnesRefused) {
  TinyModel two = Small();
  two.shards = 2;
  const Files sharded = MakeModel(two);
  const auto with_copy = [&](bool equal) {
    Files files = sharded;
    std::vector<std::string*> shards;
    for (auto& [name, content] : files) {
      if (absl::EndsWith(name, ".safetensors")) shards.push_back(&content);
    }
    std::string& last = *shards.back();
    std::vector<NamedTensor> tensors = TensorsOf(last);
    tensors.push_back(TensorsOf(*shards.front())[0]);
    if (!equal) tensors.back().data[0] ^= std::byte{1};
    last = FileOf(tensors);
    return files;
  };
  ExpectSameResults(with_copy(true));

  const Files unequal = with_copy(false);
  JobBench bench;
  bench.WriteModel("model", unequal);
  ASSERT_TRUE(bench.Send(tokens_).ok());
  ExpectReason(Refusal(bench, JobBench::Quantize({{}, "model"}, tokens_)), kInvalid,
               Reason::kBadModel, "differs from it");
  const std::string late =
      bench.Submit(JobBench::Quantize(JobBench::Manifest(unequal), tokens_)).name;
  bench.SendAll(unequal);
  ExpectReason(bench.Finish(late).error, kInvalid, Reason::kBadModel, "differs from it");
}

TEST_F(OddFilesTest, TensorsThatNothingNamesAreLeftOutAndToldOnce) {
  for (const Result& result : ResultsOf(model_)) EXPECT_THAT(result.warnings, IsEmpty());
  const Files files = With([](std::vector<NamedTensor>& tensors) {
    tensors.push_back(Extra("mtp.fc.weight"));
    tensors.push_back(Extra("model.layers.0.self_attn.q_proj.bias"));
  });
  const std::vector<Result> plain = ResultsOf(model_);
  for (const Result& result : ResultsOf(files)) {
    EXPECT_EQ(result.files, plain[0].files);
    EXPECT_THAT(result.warnings,
                ElementsAre(HasSubstr("does not announce 1 bias of the source (\"model.layers.0."),
                            HasSubstr("lacks 1 tensor of the source")));
  }
}

TEST_F(OddFilesTest, ATensorOfAnotherDTypeIsInTheWayOnlyIfItIsNeeded) {
  const auto as_f8 = [](const Files& model) {
    Files files = model;
    std::string& file = files.at(kWeights);
    std::string json = testing::HeaderOf(file).substr(8);
    const std::string data = file.substr(8 + json.size());
    json = absl::StrReplaceAll(json, {{"\"U8\"", "\"F8_E4M3\""}});
    std::string length(8, '\0');
    const uint64_t bytes = json.size();
    std::memcpy(length.data(), &bytes, 8);
    file = absl::StrCat(length, json, data);
    return files;
  };
  const std::vector<Result> plain = ResultsOf(model_);
  const Files beside =
      as_f8(With([](std::vector<NamedTensor>& tensors) { tensors.push_back(Extra("scale")); }));
  for (const Result& result : ResultsOf(beside)) EXPECT_EQ(result.files, plain[0].files);

  const Files needed = as_f8(With([](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& tensor : tensors) {
      if (tensor.name != "model.norm.weight") continue;
      tensor.dtype = DType::kU8;
      tensor.data.resize(tensor.data.size() / 2);
    }
  }));
  JobBench bench;
  ExpectReason(Refusal(bench, JobBench::Quantize(JobBench::Manifest(needed, true), tokens_)),
               kInvalid, Reason::kBadModel,
               "\"model.norm.weight\": dtype F8_E4M3 is not read here");
}

// A tensor that cannot be written costs no work on blocks, if it is here.
TEST_F(OddFilesTest, TensorsOutsideTheBlocksAreJudgedBeforeThem) {
  for (const std::string spoilt : {"model.norm.weight", "model.embed_tokens.weight"}) {
    const Files files = With([&](std::vector<NamedTensor>& tensors) {
      for (NamedTensor& tensor : tensors) {
        if (tensor.name != spoilt) continue;
        // The last element, which no token of the calibration reads, is NaN.
        tensor.data[tensor.data.size() - 1] = std::byte{0x7E};
      }
    });
    const std::string tokens = MakeTokens(2, 16, 39, 3);
    for (const auto& source : {JobBench::Manifest(files), ModelSource{{}, "model"}}) {
      JobBench bench;
      bench.WriteModel("model", files);
      ASSERT_TRUE(bench.Send(tokens).ok());
      bench.SendAll(files);
      const std::string name = bench.Submit(JobBench::Quantize(source, tokens)).name;
      ExpectReason(bench.Finish(name).error, kInvalid, Reason::kNonFinite, spoilt);
      for (const JobEvent& event : bench.WatchToEnd(name)) {
        EXPECT_FALSE(std::holds_alternative<TimedGroupReport>(event.what)) << spoilt;
      }
    }
  }
}

TEST_F(OddFilesTest, AModelThatIsQuantizedIsCalledSo) {
  Files files = model_;
  std::string& config = files.at("config.json");
  config.insert(config.size() - 1,
                R"(, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 16,
                    "version": "gemm", "zero_point": true})");
  JobBench bench;
  // It is so also where tensors are named as in such a model.
  Files packed = files;
  std::vector<NamedTensor> tensors = TensorsOf(files.at(kWeights));
  for (NamedTensor& tensor : tensors) {
    if (absl::StrContains(tensor.name, "q_proj")) tensor.name += ".qweight";
  }
  packed[kWeights] = FileOf(tensors);
  for (const Files& each : {files, packed}) {
    ExpectReason(Refusal(bench, JobBench::Quantize(JobBench::Manifest(each, true), tokens_)),
                 kInvalid, Reason::kBadModel, "a model that is not quantized yet");
  }
}

TEST_F(OddFilesTest, ADirectoryThatIsNoModelIsCalledWhatItIs) {
  JobBench bench;
  bench.WriteModel("models--x--y", {{"blobs/aa", "{}"}, {"snapshots/0123/config.json", "{}"}});
  ExpectReason(Refusal(bench, JobBench::Quantize({{}, "models--x--y"}, tokens_)), kInvalid,
               Reason::kBadModel, "expected models--x--y/snapshots/0123");
}

}  // namespace
}  // namespace salient
