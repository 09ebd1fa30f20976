// Checks models whose vocabulary is padded to more rows than the tokenizer has tokens, with what no
// result can hold in these rows.
#include "server/jobs/tokenizer_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/store/digest.h"
#include "tests/server/jobs/job_table_fixture.h"

namespace salient {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using testing::ExpectReason;
using testing::Files;
using ::testing::HasSubstr;
using testing::JobBench;
using testing::kInvalid;
using testing::MakeModel;
using testing::MakeTokens;
using testing::Must;
using ::testing::Not;

constexpr char kEmbedded[] = "model.embed_tokens.weight";
constexpr char kOwnHead[] = "lm_head.weight";
constexpr char kTokenizer[] = "tokenizer.json";
constexpr int64_t kHighest = 29;  // It is an id of the tokenizer, of 40 rows.

class PaddedVocabularyTest : public testing::JobTest {
 protected:
  // Returns a model with NaN in rows from `first` on of `tensor`, and a head of its own.
  static Files Padded(const std::string& tensor, int64_t first, DType dtype = DType::kBF16) {
    testing::TinyModel model;
    model.layers = 1;
    model.head = "own";
    model.dtype = dtype;
    model.change = [&](const std::string& name, int64_t index, float value) {
      return name == tensor && index / model.hidden >= first ? std::nanf("") : value;
    };
    Files files = MakeModel(model);
    files[kTokenizer] = R"({"model": {"vocab": {"a": 0, "b": 28}}, "added_tokens": [{"id": 29}]})";
    return files;
  }

  JobSnapshot Quantize(const ModelSource& source, const std::string& tokens) {
    return bench_.Finish(bench_.Submit(JobBench::Quantize(source, tokens)).name);
  }

  // Returns the bytes of a tensor of the model's one file, or of a result's.
  static std::string BytesOf(const std::string& file, const std::string& tensor) {
    const SafetensorsView view = Must(SafetensorsView::Parse("file", testing::AsBytes(file)));
    const auto bytes = Must(view.Tensor(tensor));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  std::string ResultOf(const JobSnapshot& job) {
    for (const ResultFile& file : job.files) {
      if (file.name == "model.safetensors") return bench_.Read(file);
    }
    return "";
  }
  double LossOf(const Files& files, const std::string& name) {
    bench_.WriteModel(name, files);
    EvaluateTask task;
    task.tokens.tokens = DigestOf(used_);
    return Run(JobBench::Spec(ModelSource{{}, name}, task))
        .evaluation->model.likelihood.negative_log_likelihood;
  }

  const std::string used_ = MakeTokens(3, 20, kHighest + 1, 11);
};

TEST_F(PaddedVocabularyTest, RowsOfNoTokenAreKeptWithAWarning) {
  ASSERT_TRUE(bench_.Send(used_).ok());
  for (const std::string tensor : {kEmbedded, kOwnHead}) {
    const Files files = Padded(tensor, kHighest + 1);
    bench_.SendAll(files);
    bench_.WriteModel(tensor, files);
    for (const ModelSource& source : {JobBench::Manifest(files), ModelSource{{}, tensor}}) {
      const JobSnapshot job = Quantize(source, used_);
      ASSERT_TRUE(job.error.ok()) << job.error;
      EXPECT_THAT(Warnings(job.name),
                  Contains(AllOf(HasSubstr(absl::StrCat(tensor, ": 10 rows of 30 to 39 are")),
                                 HasSubstr("no token has an id above 29"))));
      EXPECT_EQ(BytesOf(ResultOf(job), tensor), BytesOf(files.at("model.safetensors"), tensor));
    }
  }
}

TEST_F(PaddedVocabularyTest, IsKnownWhenTheTokenizerArrives) {
  Files files = Padded(kEmbedded, kHighest + 1, DType::kF32);
  ASSERT_TRUE(bench_.Send(used_).ok());
  const std::string name = bench_.Submit(JobBench::Quantize(JobBench::Manifest(files), used_)).name;
  const std::string tokenizer = files.at(kTokenizer);
  files.erase(kTokenizer);
  bench_.SendAll(files);
  ASSERT_TRUE(bench_.Send(tokenizer).ok());
  const JobSnapshot job = bench_.Finish(name);
  ASSERT_TRUE(job.error.ok()) << job.error;
  EXPECT_THAT(Warnings(name), Contains(HasSubstr("10 rows of 30 to 39 are not finite in F16")));
  const std::string embeddings = BytesOf(ResultOf(job), kEmbedded);
  for (size_t i = 0; i < embeddings.size() / 2; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, embeddings.data() + 2 * i, 2);
    EXPECT_EQ(std::isnan(F16ToF32(bits)), i / 32 > kHighest) << i;
  }
}

TEST_F(PaddedVocabularyTest, RowsOfATokenStayErrors) {
  ASSERT_TRUE(bench_.Send(used_).ok());
  const auto expect = [&](Files files, const std::string& part) {
    bench_.WriteModel("m", files);
    bench_.SendAll(files);
    for (const ModelSource& source : {JobBench::Manifest(files), ModelSource{{}, "m"}}) {
      ExpectReason(Quantize(source, used_).error, kInvalid, Reason::kNonFinite, part);
    }
    std::filesystem::remove_all(bench_.directory() / "models" / "m");
  };
  expect(Padded(kOwnHead, kHighest), "lm_head.weight: element [29, 0] is nan");
  Files files = Padded(kEmbedded, kHighest + 1);
  files[kTokenizer] = "version https://git-lfs.github.com/spec/v1";
  expect(files, "tokenizer.json: not valid JSON");
  files.erase(kTokenizer);
  expect(files, "a tokenizer.json or vocab.json beside the model would tell");
  files["vocab.json"] = R"({"a": 0, "b": 30})";
  expect(files, "embed_tokens.weight: element [30, 0] is nan");
}

// The tokenizer is right about the vocabulary and the calibration is not.
TEST_F(PaddedVocabularyTest, IdsOfTheCalibrationAreCheckedAllTheSame) {
  const Files files = Padded(kEmbedded, kHighest + 1);
  bench_.WriteModel("m", files);
  ASSERT_TRUE(bench_.Send(tokens_).ok());  // They have all 40 ids.
  ExpectReason(Quantize(ModelSource{{}, "m"}, tokens_).error, kInvalid, Reason::kNonFinite,
               "model.embed_tokens.weight: element [3");
}

TEST_F(PaddedVocabularyTest, AnEvaluationReadsNoEmbeddingOfOthersButEveryRowOfTheHead) {
  ASSERT_TRUE(bench_.Send(used_).ok());
  const double plain = LossOf(Padded("", 0), "plain");
  EXPECT_TRUE(std::isfinite(plain));
  EXPECT_EQ(LossOf(Padded(kEmbedded, kHighest + 1), "embeddings"), plain);
  bench_.WriteModel("head", Padded(kOwnHead, kHighest + 1));
  EvaluateTask task;
  task.tokens.tokens = DigestOf(used_);
  const std::string name = bench_.Submit(JobBench::Spec(ModelSource{{}, "head"}, task)).name;
  ExpectReason(bench_.Finish(name).error, kInvalid, Reason::kNonFinite,
               "lm_head.weight: element [30, 0] is nan; expected a finite value, because softmax");
}

TEST_F(PaddedVocabularyTest, AModelThatIsFiniteAsksForNoTokenizer) {
  Files files = Padded("", 0);
  files[kTokenizer] = "not JSON";
  bench_.WriteModel("m", files);
  ASSERT_TRUE(bench_.Send(used_).ok());
  const JobSnapshot job = Run(JobBench::Quantize(ModelSource{{}, "m"}, used_));
  EXPECT_THAT(Warnings(job.name), Each(Not(HasSubstr("tokenizer"))));
}

}  // namespace
}  // namespace salient
