// Linears whose inputs are rounded to 8 bits, against plain loops in double precision.
#include "core/model/rounded_inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/linalg/gemm.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/tensor/matrix.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/llama_places.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::Must;
using testing::SmallModel;
using testing::TestsDirectory;
using Row = std::vector<double>;
using Rows = std::vector<Row>;

constexpr InputRounding kToken = {ActivationFormat::kDynamicToken, 0};
constexpr InputRounding Fixed(float step) { return {ActivationFormat::kStaticTensor, step}; }

// Codes in f32, as an engine computes them.
Row Rounded(const InputRounding& rounding, const Row& row) {
  if (rounding.format == ActivationFormat::kNone) return row;
  float step = rounding.step;
  if (rounding.format == ActivationFormat::kDynamicToken) {
    float largest = 0;
    for (const double x : row) largest = std::max(largest, std::abs(static_cast<float>(x)));
    step = std::max(largest / 127.0f, std::numeric_limits<float>::epsilon());
  }
  Row out;
  for (const double x : row) {
    const float code = std::nearbyint(static_cast<float>(x) / step);
    out.push_back(std::min(std::max(code, -128.0f), 127.0f) * step);
  }
  return out;
}

Activations FromRows(const Rows& rows) {
  Activations input(ComputeDType::kF32, static_cast<int64_t>(rows.size()),
                    static_cast<int64_t>(rows[0].size()));
  for (size_t t = 0; t < rows.size(); ++t) {
    std::copy(rows[t].begin(), rows[t].end(), input.MutableF32(static_cast<int64_t>(t)));
  }
  return input;
}

Rows ToRows(const Activations& input) {
  Rows rows;
  for (int64_t t = 0; t < input.tokens(); ++t) {
    rows.emplace_back(input.F32(t), input.F32(t) + input.features());
  }
  return rows;
}

Rows ToRows(const Matrix& matrix) {
  Rows rows;
  for (int64_t t = 0; t < matrix.rows(); ++t) {
    rows.emplace_back(matrix.Row(t), matrix.Row(t) + matrix.cols());
  }
  return rows;
}

TEST(RoundInputTest, KeepsWhatCodesOfEightBitsHold) {
  SerialExecutor executor;
  Rows rows;
  for (int t = 0; t < 70; ++t) {  // They are two tiles of tokens.
    Row& row = rows.emplace_back();
    for (int j = 0; j < 37; ++j) row.push_back(static_cast<float>(std::sin(t * 37 + j) * (t + 1)));
  }
  rows[3].assign(37, 0.0);
  rows[4].assign(37, 1e-12);  // It is too little for any step.
  for (const InputRounding& rounding : {kToken, Fixed(0.125f), Fixed(0.3f), InputRounding()}) {
    Activations input = FromRows(rows);
    ASSERT_TRUE(RoundActivations(rounding, input, executor).ok());
    for (size_t t = 0; t < rows.size(); ++t) {
      const Row expected = Rounded(rounding, rows[t]);
      for (size_t j = 0; j < expected.size(); ++j) {
        ASSERT_EQ(input.F32(static_cast<int64_t>(t))[j], static_cast<float>(expected[j]))
            << t << ", " << j;
      }
    }
  }
  // By hand: ties to even, both ends, and nothing finite out of what is not.
  Activations few = FromRows({{0.25, 0.75, -0.25, -0.75, 63.4, 1000, -63.9, -1000, INFINITY}});
  ASSERT_TRUE(RoundActivations(Fixed(0.5f), few, executor).ok());
  EXPECT_EQ(ToRows(few)[0], (Row{0, 1, -0.0, -1, 63.5, 63.5, -64, -64, INFINITY}));
  Activations token = FromRows({{127, 1.5, 2.5, -0.5, -63.2}});
  ASSERT_TRUE(RoundActivations(kToken, token, executor).ok());
  EXPECT_EQ(ToRows(token)[0], (Row{127, 2, 2, -0.0, -63}));
  Activations nan = FromRows({{1, NAN, 2}});
  ASSERT_TRUE(RoundActivations(kToken, nan, executor).ok());
  EXPECT_TRUE(std::isnan(ToRows(nan)[0][1]));
}

// Multiplies each row by a Linear.
Rows Product(const StoredLinear& linear, const Rows& inputs) {
  std::vector<float> weight(static_cast<size_t>(linear.out_features * linear.in_features));
  linear.View().ReadRows(0, linear.out_features, weight.data());
  Rows out;
  for (const Row& exact : inputs) {
    const Row x = Rounded(linear.input, exact);
    Row& y = out.emplace_back();
    for (int64_t n = 0; n < linear.out_features; ++n) {
      double sum = linear.bias.values.empty() ? 0 : linear.bias.values[n];
      for (int64_t k = 0; k < linear.in_features; ++k)
        sum += x[k] * weight[n * linear.in_features + k];
      y.push_back(sum);
    }
  }
  return out;
}

void Rotate(const ModelConfig& config, Rows& rows) {
  const int64_t half = config.head_dim / 2;
  for (size_t t = 0; t < rows.size(); ++t) {
    for (size_t head = 0; head < rows[t].size(); head += static_cast<size_t>(config.head_dim)) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(t) *
                             std::pow(config.rope.theta, -2.0 * static_cast<double>(i) /
                                                             static_cast<double>(config.head_dim));
        double& a = rows[t][head + static_cast<size_t>(i)];
        double& b = rows[t][head + static_cast<size_t>(i + half)];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = turned;
      }
    }
  }
}

Rows Attention(const ModelConfig& config, const Rows& q, const Rows& k, const Rows& v) {
  const int64_t d = config.head_dim;
  Rows out(q.size(), Row(q[0].size()));
  for (int64_t head = 0; head < config.num_attention_heads; ++head) {
    const int64_t kv = head / config.QueryHeadsPerKvHead() * d;
    for (size_t t = 0; t < q.size(); ++t) {
      Row weights;
      double total = 0;
      for (size_t s = 0; s <= t; ++s) {
        double score = 0;
        for (int64_t i = 0; i < d; ++i) score += q[t][head * d + i] * k[s][kv + i];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
        total += weights.back();
      }
      for (size_t s = 0; s <= t; ++s) {
        for (int64_t i = 0; i < d; ++i) out[t][head * d + i] += weights[s] / total * v[s][kv + i];
      }
    }
  }
  return out;
}

double LargestOutputDifference(const Rows& a, const Rows& b) {
  double largest = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t t = 0; t < a.size(); ++t) {
    EXPECT_EQ(a[t].size(), b[t].size());
    for (size_t i = 0; i < a[t].size(); ++i)
      largest = std::max(largest, std::abs(a[t][i] - b[t][i]));
  }
  return largest;
}

// Holds what entered and left a block, and what its groups read, before it was rounded for them.
struct Seen {
  Rows entering;
  Rows leaving;
  std::map<size_t, Rows> groups;
};

Seen RunBlock(const SmallModel& model, const BlockWeights& block, Executor& executor) {
  std::vector<int64_t> tokens;
  for (int64_t t = 0; t < 70; ++t) tokens.push_back((t * t + 3 * t) % model.config.vocab_size);
  const BlockForward forward(model.plan, ComputeDType::kF32, 70);
  Matrix hidden = Must(EmbedTokens(model.checkpoint, model.plan, tokens));
  Seen seen;
  seen.entering = ToRows(hidden);
  const auto see = [&seen](size_t group, const Activations& input) {
    seen.groups[group] = ToRows(input);
    return absl::OkStatus();
  };
  const PreparedBlock prepared = Must(forward.Prepare(block, executor));
  seen.leaving = ToRows(Must(forward.Run(prepared, std::move(hidden), see, executor)));
  return seen;
}

class RoundedBlockTest : public ::testing::TestWithParam<const char*> {
 protected:
  RoundedBlockTest() : model_(TestsDirectory() + "golden/forward/" + GetParam()) {
    LimitThreadToItself();
    block_ = Must(ReadBlock(model_.checkpoint, model_.plan, 0, serial_));
  }

  void SetAll(const InputRounding& rounding) {
    for (StoredLinear& linear : block_.linears) linear.input = rounding;
  }

  // Checks what each part computed from what it saw.
  void ExpectPlainLoops(const Seen& seen) const {
    const Rows& normed = seen.groups.at(testing::llama::kQkvGroup);
    Rows q = Product(block_.linears[testing::llama::kQuery], normed);
    Rows k = Product(block_.linears[testing::llama::kKey], normed);
    Rotate(model_.config, q);
    Rotate(model_.config, k);
    const Rows v = Product(block_.linears[testing::llama::kValue], normed);
    const Rows& context = seen.groups.at(testing::llama::kOutputGroup);
    EXPECT_LT(LargestOutputDifference(Attention(model_.config, q, k, v), context), 1e-4);

    const Rows& second = seen.groups.at(testing::llama::kGateUpGroup);
    Rows inner = Product(block_.linears[testing::llama::kGate], second);
    const Rows up = Product(block_.linears[testing::llama::kUp], second);
    for (size_t t = 0; t < inner.size(); ++t) {
      for (size_t i = 0; i < inner[t].size(); ++i) {
        inner[t][i] = inner[t][i] / (1 + std::exp(-inner[t][i])) * up[t][i];
      }
    }
    const Rows& read = seen.groups.at(testing::llama::kDownGroup);
    EXPECT_LT(LargestOutputDifference(inner, read), 1e-4);

    Rows leaving = seen.entering;
    const Rows o = Product(block_.linears[testing::llama::kOutput], context);
    const Rows down = Product(block_.linears[testing::llama::kDown], read);
    for (size_t t = 0; t < leaving.size(); ++t) {
      for (size_t i = 0; i < leaving[t].size(); ++i) leaving[t][i] += o[t][i] + down[t][i];
    }
    EXPECT_LT(LargestOutputDifference(leaving, seen.leaving), 1e-4);
  }

  SmallModel model_;
  BlockWeights block_;
  SerialExecutor serial_;
};

TEST_P(RoundedBlockTest, MultipliesWhatPlainLoopsMultiply) {
  const Seen exact = RunBlock(model_, block_, serial_);
  ExpectPlainLoops(exact);
  SetAll(kToken);
  const Seen token = RunBlock(model_, block_, serial_);
  ExpectPlainLoops(token);
  // The tolerance tells rounded inputs from exact ones.
  EXPECT_GT(LargestOutputDifference(token.leaving, exact.leaving), 1e-3);
  EXPECT_EQ(token.groups.at(testing::llama::kQkvGroup), exact.groups.at(testing::llama::kQkvGroup));
}

TEST_P(RoundedBlockTest, EachLinearOfAGroupMayHaveItsOwn) {
  block_.linears[testing::llama::kQuery].input = kToken;
  block_.linears[testing::llama::kKey].input = Fixed(0.04f);
  block_.linears[testing::llama::kOutput].input = Fixed(0.01f);
  block_.linears[testing::llama::kUp].input = Fixed(0.03f);
  block_.linears[testing::llama::kDown].input = kToken;
  ExpectPlainLoops(RunBlock(model_, block_, serial_));
  block_.linears[testing::llama::kGate].input = Fixed(0.05f);
  block_.linears[testing::llama::kKey].input = kToken;
  ExpectPlainLoops(RunBlock(model_, block_, serial_));
}

TEST_P(RoundedBlockTest, TheExecutorLeavesNoTrace) {
  SetAll(kToken);
  testing::ThreadExecutor threads(3);
  EXPECT_EQ(RunBlock(model_, block_, threads).leaving, RunBlock(model_, block_, serial_).leaving);
}

TEST_P(RoundedBlockTest, BFloat16IsRefused) {
  block_.linears[testing::llama::kUp].input = kToken;
  const BlockForward forward(model_.plan, ComputeDType::kBF16, 8);
  const absl::Status status = forward.Prepare(block_, serial_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.layers.0.mlp.up_proj: its input"));
}

INSTANTIATE_TEST_SUITE_P(Switches, RoundedBlockTest,
                         ::testing::Values("plain", "grouped_query", "all_biases"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace salient
