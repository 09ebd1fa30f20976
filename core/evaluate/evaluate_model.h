// Measures the perplexity of models, and how far they are from the first of them, on the same
// tokens. One decoder block of each is in memory at a time; all is f32, but for inputs that engines
// round.
#ifndef SALIENT_CORE_EVALUATE_EVALUATE_MODEL_H_
#define SALIENT_CORE_EVALUATE_EVALUATE_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/activation_range.h"
#include "core/model/input_roundings.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/quality/perplexity.h"

namespace salient {

// Borrows both. The source shows plain weights (quantized_source.h).
struct EvaluatedModel {
  const TensorSource* source = nullptr;
  const Model* model = nullptr;
  // What an engine does to the inputs of its Linears: of every layer, or of none.
  InputRoundings inputs = {};
};

struct ModelEvaluation {
  Likelihood likelihood;
  Divergence divergence;  // It is that from the first model, and 0 of the first itself.
  // Each layer has |h' - h|^2 / |h|^2 of the residual stream leaving it, h of the first model, sums
  // over all tokens and channels. The first itself has none.
  std::vector<double> layer_errors;
  ActivationRange range;  // It is that of the residual stream, embeddings included.
  // These norms and weights of Linears are 0 in every element.
  std::vector<std::string> zero_tensors;
};

// Told how far it is; an error ends the evaluation and is returned from it.
class EvaluationObserver {
 public:
  virtual ~EvaluationObserver() = default;
  // Tells that every model has run `tokens` more tokens through block `block`; block_count is the
  // head. It is called from any thread, one call at a time.
  virtual absl::Status TokensDone(int64_t block, int64_t tokens) = 0;
};

// Evaluates `models`, at least one, on the rows of `tokens` (token ids, one vector a row, each of
// at least 2). `work_directory`, an existing directory, takes two files of hidden states a model;
// they are removed at the end.
//
// Results stand in the order of `models`. The bits are the same for any executor.
//
// Errors: INVALID_ARGUMENT for no rows, a row of fewer than 2 tokens, an id outside a vocabulary,
// models whose vocabularies, layers or hidden sizes differ (names both configs); those of the
// sources; CANCELLED from the executor.
absl::StatusOr<std::vector<ModelEvaluation>> EvaluateModels(
    absl::Span<const EvaluatedModel> models, absl::Span<const std::vector<int64_t>> tokens,
    const std::string& work_directory, EvaluationObserver& observer, Executor& executor);

// Returns whether rows of up to `tokens` tokens run side by side (side_by_side.h), and what the
// rows that are under way hold at most.
bool EvaluatesSideBySide(const Model& model, int64_t tokens, int models, int concurrency);
int64_t EvaluatedRowBytes(const Model& model, int64_t tokens, int concurrency, bool side_by_side);

}  // namespace salient

#endif  // SALIENT_CORE_EVALUATE_EVALUATE_MODEL_H_
