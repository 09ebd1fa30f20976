#include "core/model/blocks/short_convolution.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/kernels/forward_kernels.h"
#include "core/model/activations.h"
#include "core/model/blocks/products.h"
#include "core/model/projection.h"
#include "core/model/rounded_inputs.h"

namespace salient {
namespace {

constexpr auto kF32Bytes = static_cast<int64_t>(sizeof(float));

absl::StatusOr<Matrix> ProductOf(const PreparedBlock& block, size_t projection,
                                 const RoundedInputs& normed, Executor& executor) {
  const PreparedLinear& linear = block.projection(projection);
  const Activations& input = normed.Of(block.plan().projections[projection].linear);
  Matrix product = Matrix::Unset(normed.padded_tokens(), linear.out_features());
  const auto piece = [&](int64_t slice, int64_t first_token, int64_t tokens) {
    const int64_t count = linear.Slices().Count(slice);
    Matrix out = Matrix::Unset(tokens, count);
    absl::Status status = linear.Multiply(input, first_token, tokens, slice, out.data());
    for (int64_t t = 0; status.ok() && t < tokens; ++t) {
      std::copy_n(out.Row(t), count, product.Row(first_token + t) + linear.Slices().First(slice));
    }
    return status;
  };
  const absl::Status status = ForEachPiece(linear.Slices().size(), normed.padded_tokens(),
                                           block.compute(), piece, executor);
  if (!status.ok()) return status;
  return product;
}

}  // namespace

absl::Status AddShortConvolution(const PreparedBlock& block, const ShortConvolutionPlan& plan,
                                 Activations normed, GroupObserver observer, Matrix& sum,
                                 Executor& executor) {
  absl::Status status = observer(plan.input_group, normed);
  if (!status.ok()) return status;
  auto input = RoundedInputs::Create(block, block.plan().groups[plan.input_group].linears,
                                     std::move(normed), executor);
  if (!input.ok()) return input.status();
  auto gate = ProductOf(block, plan.input_gate, *input, executor);
  if (!gate.ok()) return gate.status();
  auto value = ProductOf(block, plan.value, *input, executor);
  if (!value.ok()) return value.status();
  const auto output_gate = ProductOf(block, plan.output_gate, *input, executor);
  if (!output_gate.ok()) return output_gate.status();
  const int64_t channels = value->cols();
  const int64_t tokens = input->tokens();
  status = ForEachRow(
      tokens,
      [&](int64_t t) {
        for (int64_t i = 0; i < channels; ++i) value->Row(t)[i] *= gate->Row(t)[i];
      },
      executor);
  if (!status.ok()) return status;
  const std::vector<float>& filter = block.vector(plan.filter).values;
  Activations context(block.compute(), tokens, channels);
  status = ForEachRow(
      tokens,
      [&](int64_t t) {
        // The gate's row is not needed any more and takes the sum.
        float* row = gate->Row(t);
        std::fill_n(row, channels, 0.0f);
        if (plan.bias.has_value()) {
          std::copy_n(block.vector(*plan.bias).values.data(), channels, row);
        }
        for (int64_t j = std::max<int64_t>(0, plan.length - 1 - t); j < plan.length; ++j) {
          const float* from = value->Row(t - plan.length + 1 + j);
          for (int64_t i = 0; i < channels; ++i) row[i] += filter[i * plan.length + j] * from[i];
        }
        for (int64_t i = 0; i < channels; ++i) row[i] *= output_gate->Row(t)[i];
        context.Fill(t, 0, [&](auto* out) { Scale(row, 1.0f, channels, out); });
      },
      executor);
  if (!status.ok()) return status;
  status = observer(plan.output_group, context);
  if (!status.ok()) return status;
  return AddProduct(block, plan.output, std::move(context), sum, executor);
}

int64_t TokenBytes(const BlockPlan& plan, const ShortConvolutionPlan& convolution,
                   int64_t element) {
  const int64_t channels = plan.InputsOf(plan.groups[convolution.output_group]);
  const int64_t hidden = plan.InputsOf(plan.groups[convolution.input_group]);
  return 3 * channels * kF32Bytes + (hidden + channels) * element;
}

}  // namespace salient
