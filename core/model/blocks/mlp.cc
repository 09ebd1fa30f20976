#include "core/model/blocks/mlp.h"

#include <algorithm>
#include <optional>
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

// Writes gate / 2 (1 + tanh(z)) * up, which is gate / (1 + exp(-2 z)) * up. `gate` holds the result
// before it is rounded.
template <class Out>
void GeluTanhProduct(float* gate, const float* up, int64_t n, Out* out) {
  constexpr float kTwiceRoot = 1.5957691216057308f;  // It is 2 sqrt(2 / pi).
  std::vector<float> power(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const float g = gate[i];
    power[static_cast<size_t>(i)] = -kTwiceRoot * (g + 0.044715f * g * g * g);
  }
  Exponentials(power.data(), n, power.data());
  for (int64_t i = 0; i < n; ++i) gate[i] = gate[i] / (1 + power[static_cast<size_t>(i)]) * up[i];
  Scale(gate, 1.0f, n, out);
}

// Writes activation(gate) * up.
template <class Out>
void ActivateGate(Activation activation, float* gate, const float* up, int64_t n, Out* out) {
  switch (activation) {
    case Activation::kSilu:
      SiluProduct(gate, up, n, out);
      return;
    case Activation::kGeluTanh:
      GeluTanhProduct(gate, up, n, out);
      return;
    case Activation::kRelu:
      for (int64_t i = 0; i < n; ++i) gate[i] = std::max(gate[i], 0.0f) * up[i];
      Scale(gate, 1.0f, n, out);
      return;
  }
}

// Writes activation(up), which is activation(up) * 1.
template <class Out>
void Activate(Activation activation, float* up, int64_t n, Out* out) {
  if (activation == Activation::kRelu) {
    for (int64_t i = 0; i < n; ++i) up[i] = std::max(up[i], 0.0f);
    Scale(up, 1.0f, n, out);
    return;
  }
  const std::vector<float> ones(static_cast<size_t>(n), 1.0f);
  ActivateGate(activation, up, ones.data(), n, out);
}

absl::StatusOr<Activations> Inner(const PreparedBlock& block, const MlpPlan& mlp,
                                  const RoundedInputs& normed, Executor& executor) {
  const auto input_of = [&](size_t projection) -> const Activations& {
    return normed.Of(block.plan().projections[projection].linear);
  };
  const PreparedLinear& up = block.projection(mlp.up);
  const Activations& up_input = input_of(mlp.up);
  const PreparedLinear* gate = mlp.gate.has_value() ? &block.projection(*mlp.gate) : nullptr;
  const Activations* gate_input = gate != nullptr ? &input_of(*mlp.gate) : nullptr;
  Activations inner(block.compute(), normed.tokens(), up.out_features());
  const auto piece = [&](int64_t slice, int64_t first_token, int64_t tokens) {
    const int64_t count = up.Slices().Count(slice);
    Matrix g;
    if (gate != nullptr) {
      g = Matrix::Unset(tokens, count);
      absl::Status status = gate->Multiply(*gate_input, first_token, tokens, slice, g.data());
      if (!status.ok()) return status;
    }
    Matrix u = Matrix::Unset(tokens, count);
    absl::Status status = up.Multiply(up_input, first_token, tokens, slice, u.data());
    if (!status.ok()) return status;
    const int64_t used = std::min(tokens, normed.tokens() - first_token);
    for (int64_t t = 0; t < used; ++t) {
      inner.Fill(first_token + t, up.Slices().First(slice), [&](auto* out) {
        if (gate != nullptr) {
          ActivateGate(mlp.activation, g.Row(t), u.Row(t), count, out);
        } else {
          Activate(mlp.activation, u.Row(t), count, out);
        }
      });
    }
    return status;
  };
  const absl::Status status =
      ForEachPiece(up.Slices().size(), normed.padded_tokens(), block.compute(), piece, executor);
  if (!status.ok()) return status;
  return inner;
}

}  // namespace

absl::Status AddMlp(const PreparedBlock& block, const MlpPlan& mlp, Activations normed,
                    GroupObserver observer, Matrix& sum, Executor& executor) {
  absl::Status status = observer(mlp.input_group, normed);
  if (!status.ok()) return status;
  auto input = RoundedInputs::Create(block, block.plan().groups[mlp.input_group].linears,
                                     std::move(normed), executor);
  if (!input.ok()) return input.status();
  auto inner = Inner(block, mlp, *input, executor);
  if (!inner.ok()) return inner.status();
  status = observer(mlp.output_group, *inner);
  if (!status.ok()) return status;
  return AddProduct(block, mlp.down, *std::move(inner), sum, executor);
}

int64_t TokenBytes(const BlockPlan& plan, const MlpPlan& mlp, int64_t element) {
  return (plan.InputsOf(plan.groups[mlp.input_group]) +
          plan.InputsOf(plan.groups[mlp.output_group])) *
         element;
}

}  // namespace salient
