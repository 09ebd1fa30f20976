// Tests every combination of scale, range and rounding at every width, group size and symmetry:
// what QuantizeGroup reports is what its tensors do to the tokens, and never worse than plain
// round-to-nearest, which is computed here by its definition.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/group/round_linears.h"
#include "core/method/method.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/sanitizer.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

constexpr int64_t kColumns = 128;
constexpr int64_t kTokens = 96;

struct Combination {
  Method method;
  WeightFormat format;

  std::string Text() const {
    return absl::StrCat("scale ", static_cast<int>(method.scale), " range ",
                        static_cast<int>(method.range), " rounding ",
                        static_cast<int>(method.rounding), " bits ", format.bits, " group ",
                        format.group_size, format.symmetric ? " symmetric" : "");
  }
};

std::vector<Combination> AllCombinations() {
  std::vector<Combination> all;
  for (const ScaleChoice scale :
       {ScaleChoice::kNone, ScaleChoice::kAwq, ScaleChoice::kSmoothQuant}) {
    for (const RangeChoice range : {RangeChoice::kMinMax, RangeChoice::kClip}) {
      for (const RoundingChoice rounding :
           {RoundingChoice::kNearest, RoundingChoice::kBlock, RoundingChoice::kGptq}) {
        for (int bits = 2; bits <= 8; ++bits) {
          for (const int64_t group_size :
               {int64_t{16}, int64_t{32}, int64_t{64}, int64_t{128}, kWholeRow, kWholeTensor}) {
            for (const bool symmetric : {false, true}) {
              Combination combination;
              combination.method.scale = scale;
              combination.method.range = range;
              combination.method.rounding = rounding;
              combination.format = {bits, group_size, symmetric, DType::kF16};
              all.push_back(combination);
            }
          }
        }
      }
    }
  }
  return all;
}

class CombinationsTest : public ::testing::Test {
 protected:
  CombinationsTest()
      : x_(testing::Activations(1, kTokens, kColumns)),
        statistics_(testing::DirectStatistics(x_)),
        model_(statistics_),
        weights_(2) {
    testing::KeepSample(x_, kTokens, statistics_);
    weights_[0] = testing::GaussianMatrix(2, 24, kColumns, 0.05f);
    weights_[1] = testing::GaussianMatrix(3, 8, kColumns, 0.02f);
    for (int64_t i = 0; i < 24; ++i) weights_[0].Row(i)[(i * 31) % kColumns] *= 6;
    group_.name = "g";
    group_.statistics = &statistics_;
    for (const Matrix& w : weights_) {
      group_.linears.push_back(
          {absl::StrCat("linear", group_.linears.size()),
           {DType::kF32, reinterpret_cast<const std::byte*>(w.data()), w.rows(), kColumns}});
    }
  }

  // mean |E x|^2 for E = W' / s - W.
  double LossOf(Matrix decoded, const std::vector<float>& scales, const Matrix& w) const {
    for (int64_t i = 0; i < w.rows(); ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        decoded.Row(i)[j] = decoded.Row(i)[j] / scales[j] - w.Row(i)[j];
      }
    }
    return testing::DirectLoss(decoded.data(), w.rows(), x_);
  }

  // Returns the loss of plain round-to-nearest, from the definition of the ranges alone.
  double NearestLoss(const Matrix& w, const WeightFormat& format) const {
    const int64_t size = format.GroupSize(kColumns);
    const int64_t rows_together = format.group_size == kWholeTensor ? w.rows() : 1;
    const float top = static_cast<float>((1 << format.bits) - 1);
    Matrix decoded(w.rows(), kColumns);
    for (int64_t row = 0; row < w.rows(); row += rows_together) {
      for (int64_t begin = 0; begin < kColumns; begin += size) {
        float lo = 0, hi = 0;
        for (int64_t i = row; i < row + rows_together; ++i) {
          lo = std::min(lo, *std::min_element(w.Row(i) + begin, w.Row(i) + begin + size));
          hi = std::max(hi, *std::max_element(w.Row(i) + begin, w.Row(i) + begin + size));
        }
        const float width = format.symmetric ? 2 * std::max(-lo, hi) : hi - lo;
        const float scale = RoundToF16(width / top);
        const float zero = format.symmetric ? static_cast<float>(1 << (format.bits - 1))
                                            : std::clamp(std::nearbyint(-lo / scale), 0.0f, top);
        for (int64_t i = row; i < row + rows_together; ++i) {
          for (int64_t j = begin; j < begin + size; ++j) {
            const float code = std::clamp(std::nearbyint(w.Row(i)[j] / scale) + zero, 0.0f, top);
            decoded.Row(i)[j] = scale * (code - zero);
          }
        }
      }
    }
    return LossOf(std::move(decoded), std::vector<float>(kColumns, 1.0f), w);
  }

  // Returns the codes behind Linear i of a result, in range and decoding to the tensor that was
  // written.
  Matrix DecodedCodes(const GroupResult& result, size_t i, const Combination& combination) {
    const Method& method = result.report.linears[i].kept_rtn ? kPlainRounding : combination.method;
    const auto rounded = RoundLinears({&group_.linears[i], 1}, result.scales, model_, method,
                                      combination.format, serial_);
    EXPECT_TRUE(rounded.ok()) << rounded.status();
    const AffineGroups& groups = rounded->front().groups;
    const uint8_t largest = *std::max_element(groups.codes.begin(), groups.codes.end());
    EXPECT_LT(largest, 1 << combination.format.bits);
    if (combination.format.group_size == kWholeTensor) {
      const std::set<float> scales(groups.scales.begin(), groups.scales.end());
      EXPECT_EQ(scales.size(), 1u);
    }
    Matrix decoded(groups.out_features, kColumns);
    for (int64_t o = 0; o < decoded.rows(); ++o) groups.DecodeRow(o, decoded.Row(o));
    std::vector<float> written(static_cast<size_t>(decoded.rows() * kColumns));
    WidenToF32(DType::kF16, result.tensors[i].data.data(), decoded.rows() * kColumns,
               written.data());
    int64_t unlike = 0;
    for (size_t k = 0; k < written.size(); ++k) {
      unlike += written[k] == RoundToF16(decoded.data()[k]) ? 0 : 1;
    }
    EXPECT_EQ(unlike, 0);
    return decoded;
  }

  Matrix x_;
  Statistics statistics_;
  LossModel model_;
  std::vector<Matrix> weights_;
  GroupInput group_;
  SerialExecutor serial_;
};

TEST_F(CombinationsTest, AllReportTheLossOfTheirTensorsAndBeatRoundToNearest) {
  std::map<std::tuple<int, int64_t, bool>, std::vector<double>> nearest;
  testing::ThreadExecutor threads(3);
  int64_t index = 0, better = 0;
  for (const Combination& combination : AllCombinations()) {
    ++index;
    if (testing::kUnderSanitizer && index % 29 != 0) continue;
    SCOPED_TRACE(combination.Text());
    const WeightFormat& format = combination.format;
    const StoredFormat stored{format, OutputFormat::kDequantizedFp16};
    const auto result = QuantizeGroup(group_, combination.method, stored, serial_);
    ASSERT_TRUE(result.ok()) << result.status();
    std::vector<double>& plain = nearest[{format.bits, format.group_size, format.symmetric}];
    for (size_t i = plain.size(); i < 2; ++i) plain.push_back(NearestLoss(weights_[i], format));
    for (float s : result->scales) ASSERT_TRUE(std::isfinite(s) && s > 0) << s;
    ASSERT_EQ(result->tensors.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      const LinearReport& report = result->report.linears[i];
      const double loss =
          LossOf(DecodedCodes(*result, i, combination), result->scales, weights_[i]);
      ASSERT_TRUE(std::isfinite(report.loss));
      // W' and W, f32, agree in about as many bits as there are, which their difference loses.
      const double tolerance = 1e-5 + std::ldexp(1.0, format.bits - 22);
      EXPECT_NEAR(report.loss, loss, tolerance * loss);
      EXPECT_NEAR(report.loss_rtn, plain[i], 1e-5 * plain[i]);
      EXPECT_LE(report.loss, report.loss_rtn * (1 + 1e-6));
      better += report.loss < 0.98 * report.loss_rtn ? 1 : 0;
    }
    if (index % 37 != 0) continue;
    const auto many = QuantizeGroup(group_, combination.method, stored, threads);
    ASSERT_TRUE(many.ok()) << many.status();
    EXPECT_EQ(many->scales, result->scales);
    for (size_t i = 0; i < 2; ++i) EXPECT_EQ(many->tensors[i].data, result->tensors[i].data);
    EXPECT_EQ(many->report.loss, result->report.loss);
  }
  EXPECT_EQ(index, 3 * 2 * 3 * 7 * 6 * 2);
  if (testing::kUnderSanitizer) return;
  EXPECT_GT(better, index) << "of two Linears each";
}

// Does as above, with "int-quantized" tensors, with x / s rounded as engines round it.
class EightBitsTest : public CombinationsTest,
                      public ::testing::WithParamInterface<ActivationFormat> {
 protected:
  static float F32At(const NamedTensor& tensor, int64_t i) {
    float value;
    std::memcpy(&value, tensor.data.data() + 4 * i, 4);
    return value;
  }

  // mean |Q(x / s) W'^T - x W^T|^2; `step` is that of static activations.
  double OutputError(const Matrix& decoded, const std::vector<float>& scales, float step,
                     const Matrix& w) const {
    double sum = 0;
    std::vector<double> rounded(kColumns);
    for (int64_t t = 0; t < kTokens; ++t) {
      const float* x = x_.Row(t);
      float largest = 0;
      for (int64_t j = 0; j < kColumns; ++j)
        largest = std::max(largest, std::abs(x[j] / scales[j]));
      const float unit = GetParam() == ActivationFormat::kDynamicToken ? largest / 127 : step;
      for (int64_t j = 0; j < kColumns; ++j) {
        rounded[j] = std::clamp(std::nearbyint(x[j] / scales[j] / unit), -128.0f, 127.0f) * unit;
      }
      for (int64_t o = 0; o < w.rows(); ++o) {
        double error = 0;
        for (int64_t j = 0; j < kColumns; ++j) {
          error += rounded[j] * decoded.Row(o)[j] - static_cast<double>(x[j]) * w.Row(o)[j];
        }
        sum += error * error;
      }
    }
    return sum / kTokens;
  }
};

TEST_P(EightBitsTest, AllReportTheErrorOfRoundedOutputsAndBeatRoundToNearest) {
  testing::ThreadExecutor threads(3);
  int64_t count = 0, scaled = 0;
  for (const Combination& combination : AllCombinations()) {
    const WeightFormat& format = combination.format;
    if (format.bits != 8 || format.group_size > 0 || !format.symmetric) continue;
    SCOPED_TRACE(combination.Text());
    const StoredFormat stored{format, OutputFormat::kIntQuantized, GetParam()};
    const auto result = QuantizeGroup(group_, combination.method, stored, serial_);
    ASSERT_TRUE(result.ok()) << result.status();
    const bool fixed = GetParam() == ActivationFormat::kStaticTensor;
    const size_t tensors = fixed ? 3 : 2;
    ASSERT_EQ(result->tensors.size(), 2 * tensors);
    float largest = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t j = 0; j < kColumns; ++j) {
        largest = std::max(largest, std::abs(x_.Row(t)[j] / result->scales[j]));
      }
    }
    for (size_t i = 0; i < 2; ++i) {
      const Matrix& w = weights_[i];
      const NamedTensor& weight = result->tensors[i * tensors];
      const NamedTensor& weight_scale = result->tensors[i * tensors + 1];
      float step = 0;
      if (fixed) {
        step = F32At(result->tensors[i * tensors + 2], 0);
        EXPECT_NEAR(step, largest / 127, 1e-6 * step) << "no token leaves the grid";
        EXPECT_EQ(step, F32At(result->tensors[2], 0)) << "engines fuse the Linears";
      }
      Matrix decoded(w.rows(), kColumns);
      for (int64_t o = 0; o < w.rows(); ++o) {
        const float unit = F32At(weight_scale, format.group_size == kWholeTensor ? 0 : o);
        for (int64_t j = 0; j < kColumns; ++j) {
          decoded.Row(o)[j] = unit * static_cast<float>(static_cast<int8_t>(
                                         weight.data[static_cast<size_t>(o * kColumns + j)]));
        }
      }
      const double error = OutputError(decoded, result->scales, step, w);
      const LinearReport& report = result->report.linears[i];
      EXPECT_NEAR(report.loss, error, 2e-4 * error);
      EXPECT_LE(report.loss, report.loss_rtn * (1 + 1e-6));
    }
    EXPECT_FALSE(result->report.exact_loss);
    EXPECT_GT(result->report.loss_standard_error, 0);
    ++count;
    // Channels 24 times as large as the others are what scaling is for.
    if (combination.method.scale != ScaleChoice::kNone) {
      EXPECT_LT(result->report.loss, 0.7 * result->report.loss_rtn);
      ++scaled;
    }
    const auto many = QuantizeGroup(group_, combination.method, stored, threads);
    ASSERT_TRUE(many.ok()) << many.status();
    for (size_t i = 0; i < result->tensors.size(); ++i) {
      EXPECT_EQ(many->tensors[i].data, result->tensors[i].data);
    }
    EXPECT_EQ(many->report.loss, result->report.loss);
  }
  EXPECT_EQ(count, 3 * 2 * 3 * 2);
  EXPECT_EQ(scaled, 2 * 2 * 3 * 2);
}

INSTANTIATE_TEST_SUITE_P(Activations, EightBitsTest,
                         ::testing::Values(ActivationFormat::kDynamicToken,
                                           ActivationFormat::kStaticTensor),
                         [](const auto& test) {
                           return test.param == ActivationFormat::kDynamicToken ? "dynamic"
                                                                                : "static";
                         });

}  // namespace
}  // namespace salient
