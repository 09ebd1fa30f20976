// The end of an evaluation (evaluate_model.h): logits of models that have run the same rows, how
// well they predict and how far they are from the first model's.
#ifndef SALIENT_CORE_EVALUATE_EVALUATE_HEADS_H_
#define SALIENT_CORE_EVALUATE_EVALUATE_HEADS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/evaluate/evaluate_model.h"
#include "core/model/hidden_states.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/quality/perplexity.h"

namespace salient {

// Is a model that has run its blocks. It borrows all.
struct RunModel {
  const TensorSource* source = nullptr;
  const Model* model = nullptr;
  const HiddenStatesFile* leaving = nullptr;  // the last block, a row for each of the tokens'
};

struct HeadScore {
  Likelihood likelihood;
  Divergence divergence;  // It is that from the first model, and 0 of the first itself.
};

// Scores the heads of `models`, at least one and of one vocabulary, in their order, on rows of at
// least 2 tokens each. Tells `observer` of block block_count. The bits are the same for any
// executor. Returns the errors of the sources and of the observer, and CANCELLED from the executor.
absl::StatusOr<std::vector<HeadScore>> ScoreHeads(absl::Span<const RunModel> models,
                                                  absl::Span<const std::vector<int64_t>> tokens,
                                                  EvaluationObserver& observer, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_EVALUATE_EVALUATE_HEADS_H_
