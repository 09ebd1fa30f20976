#include "core/model/blocks/forward.h"

#include <algorithm>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "core/config/model/rope.h"
#include "core/kernels/forward_kernels.h"
#include "core/model/block_plan.h"
#include "core/model/blocks/attention_layer.h"
#include "core/model/blocks/mlp.h"
#include "core/model/blocks/norm.h"
#include "core/model/blocks/products.h"
#include "core/model/blocks/short_convolution.h"
#include "core/model/projection.h"

namespace salient {
namespace {

constexpr auto kF32Bytes = static_cast<int64_t>(sizeof(float));

Norm NormOf(const PreparedBlock& block, size_t norm) {
  return Norm(block.plan().norms[norm].rule, block.norm_weight(norm), block.norm_bias(norm));
}

// Returns `x` as the input of products.
absl::StatusOr<Activations> AsActivations(const Matrix& x, ComputeDType compute,
                                          Executor& executor) {
  Activations copy(compute, x.rows(), x.cols());
  const absl::Status status = ForEachRow(
      x.rows(),
      [&](int64_t t) { copy.Fill(t, 0, [&](auto* out) { Scale(x.Row(t), 1.0f, x.cols(), out); }); },
      executor);
  if (!status.ok()) return status;
  return copy;
}

int64_t WorkerBytes(const AttentionPlan& attention) { return TaskBytes(attention); }
int64_t WorkerBytes(const MlpPlan& /*mlp*/) { return 0; }
int64_t WorkerBytes(const ShortConvolutionPlan& /*convolution*/) { return 0; }

}  // namespace

BlockForward::BlockForward(const Model& model, ComputeDType compute, int64_t max_tokens)
    : model_(model), compute_(compute), positions_(PaddedTokens(max_tokens)) {
  for (const RopeConfig& rope : model.ropes) tables_.emplace_back(rope, /*tokens=*/1, positions_);
}

absl::StatusOr<PreparedBlock> BlockForward::Prepare(const BlockWeights& block,
                                                    Executor& executor) const {
  const BlockPlan& plan = model_.blocks[static_cast<size_t>(block.layer)];
  return PreparedBlock::Create(plan, block, compute_, executor);
}

const RotaryTable& BlockForward::TableOf(size_t rope, int64_t tokens,
                                         std::unique_ptr<RotaryTable>& made) const {
  const RopeConfig& config = model_.ropes[rope];
  const std::optional<int64_t> plain = LongestPlainRow(config);
  if (!plain.has_value() || tokens <= *plain) return tables_[rope];
  made = std::make_unique<RotaryTable>(config, tokens, PaddedTokens(tokens));
  return *made;
}

absl::Status BlockForward::AddMixer(const PreparedBlock& block, const Sublayer& sublayer,
                                    Activations input, GroupObserver observer, Matrix& sum,
                                    Executor& executor) const {
  const int64_t tokens = input.tokens();
  const auto add = [&](const auto& mixer) {
    using Mixer = std::decay_t<decltype(mixer)>;
    if constexpr (std::is_same_v<Mixer, AttentionPlan>) {
      std::unique_ptr<RotaryTable> made;
      const RotaryTable* rope =
          mixer.rope.has_value() ? &TableOf(*mixer.rope, tokens, made) : nullptr;
      return AddAttention(block, mixer, rope, std::move(input), observer, sum, executor);
    } else if constexpr (std::is_same_v<Mixer, MlpPlan>) {
      return AddMlp(block, mixer, std::move(input), observer, sum, executor);
    } else {
      return AddShortConvolution(block, mixer, std::move(input), observer, sum, executor);
    }
  };
  return std::visit(add, sublayer.mixer);
}

absl::Status BlockForward::RunSublayer(const PreparedBlock& block, const Sublayer& sublayer,
                                       GroupObserver observer, Matrix& hidden,
                                       Executor& executor) const {
  auto input = sublayer.norm.has_value()
                   ? NormOf(block, *sublayer.norm).Rows(hidden, compute_, executor)
                   : AsActivations(hidden, compute_, executor);
  if (!input.ok()) return input.status();
  if (sublayer.IsAddedPlainly()) {
    absl::Status status = AddMixer(block, sublayer, *std::move(input), observer, hidden, executor);
    if (!status.ok()) return status;
  } else {
    Matrix change(hidden.rows(), hidden.cols());
    absl::Status status = AddMixer(block, sublayer, *std::move(input), observer, change, executor);
    if (!status.ok()) return status;
    const auto factor = static_cast<float>(sublayer.multiplier);
    status = ForEachRow(
        hidden.rows(),
        [&](int64_t t) {
          float* row = change.Row(t);
          if (sublayer.post_norm.has_value()) NormOf(block, *sublayer.post_norm).Row(row, row);
          if (factor != 1) Scale(row, factor, change.cols(), row);
          AddTo(row, change.cols(), hidden.Row(t));
        },
        executor);
    if (!status.ok()) return status;
  }
  if (!sublayer.after.has_value()) return absl::OkStatus();
  const Norm after = NormOf(block, *sublayer.after);
  return ForEachRow(
      hidden.rows(), [&](int64_t t) { after.Row(hidden.Row(t), hidden.Row(t)); }, executor);
}

absl::StatusOr<Matrix> BlockForward::Run(const PreparedBlock& block, Matrix hidden,
                                         GroupObserver observer, Executor& executor) const {
  const int64_t tokens = hidden.rows();
  const int64_t width = model_.config.hidden_size;
  if (tokens < 1 || tokens > positions_ || hidden.cols() != width) {
    return absl::InvalidArgumentError(absl::StrCat("hidden states are [", tokens, ", ",
                                                   hidden.cols(), "]; expected [1 to ", positions_,
                                                   ", ", width, "]"));
  }
  for (const Sublayer& sublayer : block.plan().sublayers) {
    absl::Status status = RunSublayer(block, sublayer, observer, hidden, executor);
    if (!status.ok()) return status;
  }
  return hidden;
}

int64_t BlockForward::MemoryBytes(const Model& model, const BlockPlan& plan, ComputeDType compute,
                                  int64_t tokens, int concurrency) {
  const int64_t padded = PaddedTokens(tokens);
  const int64_t element = compute == ComputeDType::kBF16 ? 2 : kF32Bytes;
  const int64_t hidden = plan.InputsOf(plan.groups.front());
  int64_t widest = 0;
  int64_t slice = SliceOutputs(compute);
  for (const LinearPlan& linear : plan.linears) {
    widest = std::max(widest, linear.shape.in_features);
    slice = std::max(slice, linear.unit);
  }
  // A worker has a piece of a product, or a task of a mixer.
  int64_t worker = 2 * std::min(padded, TokensAtATime(compute)) * slice * kF32Bytes +
                   PreparedLinear::MultiplyBytes(compute, padded, widest);
  int64_t token = 0;
  for (const Sublayer& sublayer : plan.sublayers) {
    std::visit(
        [&](const auto& mixer) {
          const int64_t change = sublayer.IsAddedPlainly() ? 0 : hidden * kF32Bytes;
          token = std::max(token, TokenBytes(plan, mixer, element) + change);
          worker = std::max(worker, WorkerBytes(mixer));
        },
        sublayer.mixer);
  }
  int64_t tables = 0;
  for (const RopeConfig& rope : model.ropes) {
    // A row that is longer than the plain ones has a table of its own.
    const int64_t times = LongestPlainRow(rope).value_or(tokens) < tokens ? 2 : 1;
    tables += times * RotaryTable::MemoryBytes(rope, padded);
  }
  return padded * (hidden * kF32Bytes + token) + concurrency * worker + tables;
}

}  // namespace salient
