#include "core/group/quantize_group.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/group/few_tokens.h"
#include "core/parallel/executor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/stored_format.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/matrix_view.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

// W' [O, I] as a reader of the packed tensors computes it, written against the layout's
// description alone: output n stands in nibble {0,4,1,5,2,6,3,7}[n mod 8] of word n / 8.
Matrix Decode(const NamedTensor& qweight, const NamedTensor& qzeros, const NamedTensor& scales) {
  const int64_t inputs = qweight.shape[0], outputs = scales.shape[1], groups = scales.shape[0];
  const int nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  const auto code = [&](const NamedTensor& tensor, int64_t row, int64_t n) {
    uint32_t word;
    std::memcpy(&word, tensor.data.data() + 4 * (row * outputs / 8 + n / 8), 4);
    return static_cast<float>((word >> (4 * nibble[n % 8])) & 15);
  };
  Matrix w(outputs, inputs);
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t k = 0; k < inputs; ++k) {
      const int64_t g = k / (inputs / groups);
      uint16_t bits;
      std::memcpy(&bits, scales.data.data() + 2 * (g * outputs + n), 2);
      w.Row(n)[k] = F16ToF32(bits) * (code(qweight, k, n) - code(qzeros, g, n));
    }
  }
  return w;
}

struct Case {
  std::string name;
  Method method;
  int64_t group_size;
};

class QuantizeGroupTest : public ::testing::TestWithParam<Case> {
 protected:
  QuantizeGroupTest()
      : x_(testing::Activations(1, 256, 256)),
        statistics_(testing::DirectStatistics(x_)),
        q_(testing::GaussianMatrix(2, 40, 256, 0.05f)),
        k_(testing::GaussianMatrix(3, 16, 256, 0.05f)) {
    for (int64_t i = 0; i < 40; ++i) q_.Row(i)[(i * 31) % 256] *= 8;  // Tails are heavy.
    group_.name = "block.0.qkv";
    group_.linears = {{"q_proj", testing::View(q_)}, {"k_proj", testing::View(k_)}};
    group_.statistics = &statistics_;
  }

  Matrix x_;
  Statistics statistics_;
  Matrix q_;
  Matrix k_;
  GroupInput group_;
  SerialExecutor serial_;
};

TEST_P(QuantizeGroupTest, ReportedLossIsTheOutputErrorOfThePackedTensorsAndNeverAboveRtn) {
  WeightFormat format;
  format.group_size = GetParam().group_size;
  const auto result =
      QuantizeGroup(group_, GetParam().method, {format, OutputFormat::kAwqGemm}, serial_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->tensors.size(), 6u);
  double total = 0;
  for (size_t i = 0; i < 2; ++i) {
    const Matrix& w = i == 0 ? q_ : k_;
    Matrix errors =
        Decode(result->tensors[3 * i], result->tensors[3 * i + 1], result->tensors[3 * i + 2]);
    for (int64_t n = 0; n < w.rows(); ++n) {
      for (int64_t k = 0; k < 256; ++k) {
        errors.Row(n)[k] = errors.Row(n)[k] / result->scales[k] - w.Row(n)[k];
      }
    }
    const double loss = testing::DirectLoss(errors.data(), w.rows(), x_);
    const LinearReport& report = result->report.linears[i];
    EXPECT_NEAR(report.loss, loss, 1e-5 * loss);
    EXPECT_NEAR(report.relative_output_error, loss / testing::DirectLoss(w.data(), w.rows(), x_),
                1e-5);
    EXPECT_LE(report.loss, report.loss_rtn);
    total += loss;
  }
  EXPECT_NEAR(result->report.loss, total, 1e-5 * total);
  EXPECT_EQ(result->report.parameters, 56 * 256);
  EXPECT_TRUE(result->report.exact_loss);
}

TEST_P(QuantizeGroupTest, BytesDoNotDependOnTheExecutor) {
  WeightFormat format;
  format.group_size = GetParam().group_size;
  const auto one =
      QuantizeGroup(group_, GetParam().method, {format, OutputFormat::kAwqGemm}, serial_);
  ASSERT_TRUE(one.ok());
  for (int workers : {2, 3}) {
    testing::ThreadExecutor threads(workers);
    const auto many =
        QuantizeGroup(group_, GetParam().method, {format, OutputFormat::kAwqGemm}, threads);
    ASSERT_TRUE(many.ok());
    EXPECT_EQ(one->scales, many->scales);
    for (size_t i = 0; i < one->tensors.size(); ++i) {
      EXPECT_EQ(one->tensors[i].data, many->tensors[i].data);
    }
    EXPECT_EQ(one->report.loss, many->report.loss);
  }
}

float RoundTo(DType dtype, float value) {
  return dtype == DType::kF16 ? RoundToF16(value) : BF16ToF32(F32ToBF16(value));
}

// Property (quantize_group.h): the norm that is stored, times s, is the norm again.
TEST_P(QuantizeGroupTest, FoldingIntoAStoredNormIsExact) {
  const Matrix norm = testing::GaussianMatrix(4, 1, 256, 0.3f);
  std::vector<float> weight(norm.data(), norm.data() + 256);
  weight[7] = 0;
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    group_.vector_fold = VectorFold{weight, dtype};
    const auto result = QuantizeGroup(group_, Method{}, StoredFormat{}, serial_);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_FALSE(result->report.candidate.identity);
    for (size_t j = 0; j < 256; ++j) {
      const float stored = RoundTo(dtype, weight[j] / result->scales[j]);
      EXPECT_NEAR(stored * result->scales[j], weight[j], 1.2e-7 * std::abs(weight[j])) << j;
    }
    EXPECT_EQ(result->scales[7], 1.0f);
  }
}

// The bias of the Linear before is folded the same way; the query heads of a kv head share its
// elements. A channel without one keeps its s, because its weights pass something on.
TEST_P(QuantizeGroupTest, FoldingIntoAStoredBiasIsExact) {
  group_.tied_heads = TiedHeads{32, 4};
  const auto without = QuantizeGroup(group_, Method{}, StoredFormat{}, serial_);
  ASSERT_TRUE(without.ok()) << without.status();
  const Matrix bias = testing::GaussianMatrix(4, 1, 64, 0.3f);
  std::vector<float> values(bias.data(), bias.data() + 64);
  values[40] = 0;
  group_.vector_fold = VectorFold{values, DType::kBF16, /*is_norm=*/false};
  const auto result = QuantizeGroup(group_, Method{}, StoredFormat{}, serial_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->report.candidate.identity);
  for (size_t j = 0; j < 256; ++j) {
    const size_t i = j / 128 * 32 + j % 32;
    const float stored = RoundTo(DType::kBF16, values[i] / result->scales[j]);
    EXPECT_NEAR(stored * result->scales[j], values[i], 1.2e-7 * std::abs(values[i])) << j;
    EXPECT_EQ(result->scales[j], result->scales[j / 128 * 128 + j % 32]) << j;
    EXPECT_TRUE(i != 40 || result->scales[j] == without->scales[j]) << j;
  }
}

// Reads the same codes, whether packed or decoded: words of the one, read by its description,
// round to the halves of the other.
TEST_P(QuantizeGroupTest, DecodedWeightsAreThoseThatThePackedOnesDecodeTo) {
  WeightFormat format;
  format.group_size = GetParam().group_size;
  const auto packed =
      QuantizeGroup(group_, GetParam().method, {format, OutputFormat::kAwqGemm}, serial_);
  const auto decoded =
      QuantizeGroup(group_, GetParam().method, {format, OutputFormat::kDequantizedFp16}, serial_);
  ASSERT_TRUE(packed.ok()) << packed.status();
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ASSERT_EQ(decoded->tensors.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const Matrix expected =
        Decode(packed->tensors[3 * i], packed->tensors[3 * i + 1], packed->tensors[3 * i + 2]);
    const NamedTensor& weight = decoded->tensors[i];
    EXPECT_EQ(weight.name, group_.linears[i].name + ".weight");
    EXPECT_EQ(weight.shape, (std::vector<int64_t>{expected.rows(), 256}));
    std::vector<float> values(static_cast<size_t>(expected.rows() * 256));
    WidenToF32(DType::kF16, weight.data.data(), expected.rows() * 256, values.data());
    for (size_t j = 0; j < values.size(); ++j) {
      ASSERT_EQ(values[j], RoundToF16(expected.data()[j])) << weight.name << " element " << j;
    }
    EXPECT_EQ(decoded->report.linears[i].bytes_out, 2 * expected.rows() * 256);
  }
}

constexpr Method kRtn{
    ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
constexpr Method kPaper{ScaleChoice::kAwq, RangeChoice::kClip, RoundingChoice::kNearest, {}, false};
constexpr Method kBlockOnly{
    ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kBlock, {}, false};

constexpr Method kGptqOnly{
    ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kGptq, {}, false};
constexpr Method kGptqAll{ScaleChoice::kAwq, RangeChoice::kClip, RoundingChoice::kGptq, {}, false};

INSTANTIATE_TEST_SUITE_P(Methods, QuantizeGroupTest,
                         ::testing::Values(Case{"rtn", kRtn, 128}, Case{"paper", kPaper, 128},
                                           Case{"block", kBlockOnly, 64},
                                           Case{"gptq", kGptqOnly, 64},
                                           Case{"awq_clip_gptq", kGptqAll, 128},
                                           Case{"default", Method{}, 128},
                                           Case{"default_channel", Method{}, -1}),
                         [](const auto& test) { return test.param.name; });

TEST(QuantizeGroupErrorsTest, NonFiniteWeightNamesTensorAndElement) {
  const Matrix x = testing::Activations(1, 32, 64);
  const Statistics statistics = testing::DirectStatistics(x);
  Matrix w = testing::GaussianMatrix(2, 8, 64);
  w.Row(5)[17] = std::numeric_limits<float>::quiet_NaN();
  GroupInput group;
  group.name = "g";
  group.linears = {{"m.down_proj", testing::View(w)}};
  group.statistics = &statistics;
  WeightFormat format;
  format.group_size = 32;
  SerialExecutor executor;
  const absl::Status status =
      QuantizeGroup(group, {}, {format, OutputFormat::kAwqGemm}, executor).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("m.down_proj.weight: element [5, 17] is nan"),
            absl::string_view::npos)
      << status;
}

// 50 tokens in 64 channels: the Gram matrix is singular, and without damping has no factor.
TEST(QuantizeGroupNotesTest, DampingThatHadToBeRaisedIsNoted) {
  const Statistics statistics = testing::DirectStatistics(testing::GaussianMatrix(1, 50, 64));
  const Matrix w = testing::GaussianMatrix(2, 8, 64);
  GroupInput group;
  group.name = "g";
  group.linears = {{"m.down_proj", testing::View(w)}};
  group.statistics = &statistics;
  WeightFormat format;
  format.group_size = 32;
  Method method = kGptqOnly;
  method.gptq.damping = 0;
  SerialExecutor executor;
  const auto result = QuantizeGroup(group, method, {format, OutputFormat::kAwqGemm}, executor);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->report.notes.size(), 1u);
  EXPECT_EQ(result->report.notes[0],
            "m.down_proj: X^T X could not be factored with a damping of 0; 0.01 was used");
}

// Where s is not quite 1, because the norm is rounded, the loss of the same codes comes out of two
// roundings of f32.
TEST(QuantizeGroupNotesTest, RoundToNearestIsNotKeptInsteadOfItself) {
  const Statistics statistics = testing::DirectStatistics(testing::Activations(1, 200, 256));
  const Matrix norm = testing::GaussianMatrix(4, 1, 256, 0.3f);
  std::vector<Matrix> weights;
  GroupInput group;
  group.name = "g";
  group.statistics = &statistics;
  group.vector_fold = VectorFold{{norm.data(), 256}, DType::kF16};
  for (uint64_t i = 0; i < 8; ++i) weights.push_back(testing::GaussianMatrix(5 + i, 16, 256));
  for (const Matrix& w : weights) group.linears.push_back({"m.a", testing::View(w)});
  SerialExecutor executor;
  const auto result = QuantizeGroup(group, kRtn, StoredFormat{}, executor);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->report.notes.empty()) << result->report.notes[0];
  for (const LinearReport& linear : result->report.linears) {
    EXPECT_FALSE(linear.kept_rtn);
    EXPECT_NEAR(linear.loss, linear.loss_rtn, 1e-5 * linear.loss_rtn);
  }
}

// This is a group of one Linear, 64 columns in groups of 32.
class OneLinearTest : public ::testing::Test {
 protected:
  absl::StatusOr<GroupResult> Quantize(const Matrix& x, const Matrix& w, const Method& method,
                                       OutputFormat output = OutputFormat::kAwqGemm) {
    const Statistics statistics = testing::DirectStatistics(x);
    GroupInput group;
    group.name = "g";
    group.linears = {{"m.down_proj", testing::View(w)}};
    group.statistics = &statistics;
    WeightFormat format;
    format.group_size = 32;
    SerialExecutor executor;
    return QuantizeGroup(group, method, {format, output}, executor);
  }

  const Matrix w_ = testing::GaussianMatrix(2, 8, 64, 0.05f);
};

TEST_F(OneLinearTest, TooFewTokensLeaveRoundToNearest) {
  for (const int64_t tokens : {int64_t{1}, kFewestTokens - 1, kFewestTokens}) {
    const Matrix x = testing::Activations(1, tokens, 64);
    const auto nearest = Quantize(x, w_, kRtn);
    ASSERT_TRUE(nearest.ok()) << nearest.status();
    EXPECT_TRUE(nearest->report.warnings.empty()) << "Nothing was calibrated.";
    for (const Method& method : {Method{}, kGptqAll}) {
      const auto result = Quantize(x, w_, method);
      ASSERT_TRUE(result.ok()) << result.status();
      const bool too_few = tokens < kFewestTokens;
      EXPECT_EQ(result->tensors[0].data == nearest->tensors[0].data, too_few) << tokens;
      EXPECT_EQ(result->report.linears[0].kept_rtn, too_few);
      EXPECT_EQ(result->report.loss == result->report.loss_rtn, too_few);
      ASSERT_EQ(result->report.warnings.size(), too_few ? 1u : 0u);
      if (!too_few) continue;
      EXPECT_EQ(result->report.warnings[0],
                absl::StrCat("calibration has ", tokens, " tokens; with fewer than ", kFewestTokens,
                             " every Linear keeps plain round-to-nearest"));
    }
  }
}

TEST(QuantizeGroupNotesTest, FewTokensForTheWidthAreWarnedOf) {
  const Matrix w = testing::GaussianMatrix(2, 8, 512, 0.05f);
  for (const int64_t tokens : {127, 128}) {
    const Statistics statistics = testing::DirectStatistics(testing::Activations(1, tokens, 512));
    GroupInput group;
    group.name = "g";
    group.linears = {{"m.down_proj", testing::View(w)}};
    group.statistics = &statistics;
    SerialExecutor executor;
    const auto result =
        QuantizeGroup(group, {}, {WeightFormat{}, OutputFormat::kAwqGemm}, executor);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->report.warnings.size(), tokens < 128 ? 1u : 0u);
    if (tokens >= 128) continue;
    EXPECT_NE(result->report.warnings[0].find("127 tokens, few for Linears of 512 in_features: "
                                              "expected at least 128"),
              std::string::npos)
        << result->report.warnings[0];
  }
}

// Nothing can be told of inputs that are all 0, and no ratio of what is not known is told.
TEST_F(OneLinearTest, InputsThatAreAllZeroLeaveRoundToNearest) {
  const Matrix silence(64, 64);
  const auto nearest = Quantize(silence, w_, kRtn);
  ASSERT_TRUE(nearest.ok()) << nearest.status();
  for (const Method& method : {Method{}, kGptqAll}) {
    const auto result = Quantize(silence, w_, method);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->tensors[0].data, nearest->tensors[0].data);
    EXPECT_TRUE(result->report.linears[0].kept_rtn);
    EXPECT_EQ(result->report.loss, 0);
    EXPECT_EQ(result->report.loss_rtn, 0);
    ASSERT_EQ(result->report.notes.size(), 1u);
    EXPECT_NE(result->report.notes[0].find("loss cannot be told from 0"), std::string::npos);
  }
}

// Scaling all inputs by 2^-k and weights by 2^k leaves the same codes, scales 2^k times as large.
TEST_F(OneLinearTest, MagnitudesOfInputsAndWeightsLeaveTheCodesAlone) {
  const Matrix x = testing::Activations(1, 128, 64);
  for (const Method& method : {Method{}, kGptqAll}) {
    const auto plain = Quantize(x, w_, method);
    ASSERT_TRUE(plain.ok()) << plain.status();
    for (const int k : {-4, 3, 8, 14, 18}) {
      Matrix small(x.rows(), x.cols());
      for (int64_t i = 0; i < x.rows() * x.cols(); ++i) {
        small.data()[i] = std::ldexp(x.data()[i], -k);
      }
      Matrix large(w_.rows(), w_.cols());
      for (int64_t i = 0; i < w_.rows() * w_.cols(); ++i) {
        large.data()[i] = std::ldexp(w_.data()[i], k);
      }
      const auto result = Quantize(small, large, method);
      ASSERT_TRUE(result.ok()) << result.status();
      const std::vector<std::byte>& expected = plain->tensors[0].data;
      const std::vector<std::byte>& codes = result->tensors[0].data;
      int64_t unlike = 0;
      for (size_t i = 0; i < codes.size(); ++i) unlike += codes[i] != expected[i] ? 1 : 0;
      EXPECT_LE(unlike, 3) << k << ": sums may differ by their last digits";
      EXPECT_NEAR(result->report.loss / plain->report.loss, 1, 1e-2) << k;
      EXPECT_NEAR(result->report.loss_rtn / plain->report.loss_rtn, 1, 1e-3) << k;
    }
  }
}

TEST_F(OneLinearTest, WeightsTooSmallForF16AreHeldAsWellAsItCanOrWarnedOf) {
  const Matrix x = testing::Activations(1, 128, 64);
  Matrix tiny(8, 64);
  // Weights are up to 6e-7.
  for (int64_t i = 0; i < 8 * 64; ++i) tiny.data()[i] = w_.data()[i] * 4e-6f;
  for (const Method& method : {kRtn, Method{}}) {
    const auto result = Quantize(x, tiny, method);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_LT(result->report.relative_output_error, 0.1) << "Scale 2^-24 holds 10 steps.";
    EXPECT_TRUE(result->report.warnings.empty());
  }
  for (int64_t i = 0; i < 8 * 64; ++i) tiny.data()[i] = w_.data()[i] * 1e-8f;
  const auto lost = Quantize(x, tiny, {});
  ASSERT_TRUE(lost.ok()) << lost.status();
  EXPECT_GT(lost->report.relative_output_error, 0.9);
  ASSERT_EQ(lost->report.warnings.size(), 1u);
  EXPECT_NE(lost->report.warnings[0].find("m.down_proj: 16 of 16 groups of weights became 0"),
            std::string::npos)
      << lost->report.warnings[0];
}

// Scaling would make them too large for F16, so they are left unscaled.
TEST_F(OneLinearTest, WeightsNearTheLimitOfF16AreQuantizedAsRoundToNearestDoes) {
  Matrix x = testing::Activations(1, 128, 64);
  Matrix large(8, 64);
  for (int64_t i = 0; i < 8 * 64; ++i) {
    large.data()[i] = std::clamp(w_.data()[i] * 6e5f, -60000.0f, 60000.0f);
  }
  for (const OutputFormat output : {OutputFormat::kDequantizedFp16, OutputFormat::kScaledFp16}) {
    for (const Method& method : {kRtn, kPaper, Method{}, kGptqAll}) {
      const auto result = Quantize(x, large, method, output);
      EXPECT_TRUE(result.ok()) << result.status();
    }
  }
}

TEST(QuantizeGroupErrorsTest, WhatCannotWorkNamesTheField) {
  const auto message = [](int64_t out, int64_t in, WeightFormat format) {
    const absl::Status status = ValidateLinear("m", out, in, {format, OutputFormat::kAwqGemm});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_NE(message(12, 128, {}).find("out_features is 12"), std::string::npos);
  EXPECT_NE(message(8, 172, {}).find("group_size is 128"), std::string::npos);
  EXPECT_NE(message(8, 128, {3, 128, false, DType::kF16}).find("bits is 3"), std::string::npos);
  EXPECT_NE(message(8, 128, {9, 128, false, DType::kF16}).find("bits is 9"), std::string::npos);
  EXPECT_NE(message(8, 128, {4, 0, false, DType::kF16}).find("group_size is 0"), std::string::npos);
  EXPECT_NE(message(0, 128, {}).find("out_features is 0"), std::string::npos);
}

TEST(QuantizeGroupErrorsTest, DecodedWeightsTakeEveryWidthAndShape) {
  const auto validate = [](int bits, int64_t group_size) {
    return ValidateLinear("m", 13, 172,
                          {{bits, group_size, false, DType::kF16}, OutputFormat::kDequantizedFp16});
  };
  for (int bits = 2; bits <= 8; ++bits) {
    EXPECT_TRUE(validate(bits, 43).ok());
    EXPECT_TRUE(validate(bits, -1).ok());
  }
  EXPECT_FALSE(validate(1, 43).ok());
  EXPECT_FALSE(validate(9, 43).ok());
  EXPECT_FALSE(validate(3, 32).ok());
}

}  // namespace
}  // namespace salient
