#include "core/cost/work_count.h"

#include "core/cost/work_operations.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/tensor/dtype.h"

namespace salient {

using namespace operations;

Work& Work::operator+=(const Work& other) {
  bf16_flop += other.bf16_flop;
  f32_flop += other.f32_flop;
  vector_flop += other.vector_flop;
  bytes += other.bytes;
  return *this;
}

Work& Work::operator*=(double times) {
  bf16_flop *= times;
  f32_flop *= times;
  vector_flop *= times;
  bytes *= times;
  return *this;
}

WorkCount::WorkCount(const Model& model, const BlockPlan& block)
    : model_(model),
      block_(block),
      stored_bytes_(
          model.config.dtype.has_value() ? static_cast<double>(SizeOf(*model.config.dtype)) : 2),
      block_parameters_(block.Weights()),
      stages_() {}

void WorkCount::Repeat(double times) {
  for (Work& work : stages_) work *= times;
}

void WorkCount::Add(const WorkCount& other) {
  for (size_t i = 0; i < kStages; ++i) stages_[i] += other.stages_[i];
}

void WorkCount::ReadBlock(bool decoded) {
  Work& work = At(Stage::kRead);
  work.vector_flop += (decoded ? kReadDecoded : kRead) * static_cast<double>(block_parameters_);
  work.bytes += stored_bytes_ * static_cast<double>(block_parameters_);
}

void WorkCount::CompareStates(int64_t tokens) {
  At(Stage::kForward).vector_flop +=
      4 * kAdd * static_cast<double>(tokens * model_.config.hidden_size);
}

void WorkCount::Head(int64_t tokens, bool compared) {
  const double padded = static_cast<double>(PaddedTokens(tokens));
  const double hidden = static_cast<double>(model_.config.hidden_size);
  const double vocabulary = static_cast<double>(model_.config.vocab_size);
  Product(Stage::kForward, padded, vocabulary, hidden, ComputeDType::kF32);
  // The likelihood takes one, the divergence two.
  At(Stage::kForward).vector_flop +=
      (compared ? 3 : 1) * kExponential * static_cast<double>(tokens) * vocabulary +
      kNorm * padded * hidden + kHandOver;
}

// Counts one block's forward pass on a row.
void WorkCount::Forward(int64_t tokens, ComputeDType compute) {
  const double padded = static_cast<double>(PaddedTokens(tokens));
  const double hidden = static_cast<double>(model_.config.hidden_size);
  for (const LinearPlan& linear : block_.linears) {
    Product(Stage::kForward, padded, static_cast<double>(linear.shape.out_features),
            static_cast<double>(linear.shape.in_features), compute);
  }
  for (const Sublayer& sublayer : block_.sublayers) {
    At(Stage::kForward).vector_flop += (kNorm + kAdd) * padded * hidden;
    if (!sublayer.IsAddedPlainly()) {
      At(Stage::kForward).vector_flop += (kNorm + kAdd) * padded * hidden;
    }
    std::visit([&](const auto& mixer) { Mix(block_, mixer, padded); }, sublayer.mixer);
  }
  At(Stage::kForward).vector_flop += 8 * kHandOver;
}

void WorkCount::Mix(const BlockPlan& /*block*/, const AttentionPlan& attention, double padded) {
  const double query = static_cast<double>(attention.heads * attention.head_dim);
  const double key = static_cast<double>(attention.kv_heads * attention.head_dim);
  // Scores and context of one head and 64 queries at a time, over the keys they see.
  const double tile = static_cast<double>(kTokenTile);
  double scores = 0;
  for (double end = tile; end <= padded; end += tile) scores += tile * end;
  Work& work = At(Stage::kForward);
  work.f32_flop += 4 * scores * query;
  const double heads = static_cast<double>(attention.heads);
  work.vector_flop += kSoftmax * 0.5 * heads * (padded * padded) + kAdd * heads * scores +
                      kRotate * padded * (query + key);
}

void WorkCount::Mix(const BlockPlan& block, const ShortConvolutionPlan& convolution,
                    double padded) {
  const auto channels = static_cast<double>(block.projections[convolution.value].rows);
  At(Stage::kForward).vector_flop +=
      kAdd * padded * channels * static_cast<double>(convolution.length + 2);
}

void WorkCount::Mix(const BlockPlan& block, const MlpPlan& mlp, double padded) {
  const int64_t inner = block.projections[mlp.up].rows;
  At(Stage::kForward).vector_flop += kSilu * padded * static_cast<double>(inner);
}

void WorkCount::Product(Stage stage, double tokens, double out, double in, ComputeDType compute) {
  Work& work = At(stage);
  work.vector_flop += kHandOver;
  if (compute == ComputeDType::kBF16) {
    work.bf16_flop += 2 * tokens * out * in;
    // It reads the weight as it was laid out once for all rows.
    work.bytes += 2 * out * in + tokens * (2 * in + 4 * out);
  } else {
    work.f32_flop += 2 * tokens * out * in;
    work.vector_flop += kWiden * out * in;
    work.bytes += stored_bytes_ * out * in + 4 * tokens * (in + out);
  }
  work.vector_flop += kAdd * tokens * out;
}

}  // namespace salient
