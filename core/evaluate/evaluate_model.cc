#include "core/evaluate/evaluate_model.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/evaluate/evaluate_heads.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/blocks/side_by_side.h"
#include "core/model/group_observer.h"
#include "core/model/hidden_states.h"
#include "core/model/model.h"
#include "core/model/numerics.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/parallel/mutex.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

// One of the models on its way through the blocks.
struct Runner {
  const TensorSource* source = nullptr;
  const Model* model = nullptr;
  InputRoundings inputs;
  BlockForward forward;
  HiddenStatesFile entering;  // It is never committed and goes away with the object.
};

// Sums of the squares of a residual stream and of its distance from another.
struct SquaredError {
  double error = 0;
  double energy = 0;
};

SquaredError Compare(const Matrix& reference, const Matrix& hidden) {
  SquaredError sum;
  for (int64_t i = 0; i < reference.rows() * reference.cols(); ++i) {
    const double value = reference.data()[i];
    const double error = hidden.data()[i] - value;
    sum.error += error * error;
    sum.energy += value * value;
  }
  return sum;
}

class Evaluator {
 public:
  Evaluator(absl::Span<const std::vector<int64_t>> tokens, const std::string& work_directory,
            EvaluationObserver& observer, Executor& executor)
      : tokens_(tokens),
        work_directory_(work_directory),
        observer_(observer),
        executor_(executor) {}

  absl::StatusOr<std::vector<ModelEvaluation>> Run(absl::Span<const EvaluatedModel> models) {
    results_.resize(models.size());
    for (const EvaluatedModel& model : models) {
      if (absl::Status status = Enter(model); !status.ok()) return status;
    }
    for (int64_t layer = 0; layer < models[0].model->config.num_hidden_layers; ++layer) {
      if (absl::Status status = RunBlock(layer); !status.ok()) return status;
    }
    if (absl::Status status = RunHeads(); !status.ok()) return status;
    return std::move(results_);
  }

 private:
  absl::StatusOr<HiddenStatesFile> CreateStates(size_t model, int64_t layer, int64_t hidden_size) {
    HiddenStatesShape shape{layer, hidden_size, {}, NumericsId(ComputeDType::kF32)};
    for (const std::vector<int64_t>& row : tokens_) {
      shape.lengths.push_back(static_cast<int64_t>(row.size()));
    }
    return HiddenStatesFile::Create(
        absl::StrCat(work_directory_, "/evaluate-", model, "-", layer, ".states"), shape);
  }

  // Embeds all rows.
  absl::Status Enter(const EvaluatedModel& evaluated) {
    const Model& model = *evaluated.model;
    const int64_t hidden_size = model.config.hidden_size;
    absl::StatusOr<HiddenStatesFile> states = CreateStates(runners_.size(), 0, hidden_size);
    if (!states.ok()) return states.status();
    size_t longest = 0;
    for (size_t row = 0; row < tokens_.size(); ++row) {
      longest = std::max(longest, tokens_[row].size());
      const absl::StatusOr<Matrix> hidden = EmbedTokens(*evaluated.source, model, tokens_[row]);
      if (!hidden.ok()) {
        return absl::Status(hidden.status().code(),
                            absl::StrCat("evaluation row ", row, ": ", hidden.status().message()));
      }
      absl::Status status = states->WriteRow(static_cast<int64_t>(row), *hidden);
      if (!status.ok()) return status;
    }
    ModelEvaluation& result = results_[runners_.size()];
    result.range = {states->Largest(), "the embeddings"};
    // A weight that stands for w - 1 may be 0 everywhere.
    if (model.final_norm.has_value() && !model.final_norm->rule.plus_one) {
      const auto norm =
          ReadVector(*evaluated.source, model.config, {model.final_norm->weight, {hidden_size}});
      if (!norm.ok()) return norm.status();
      if (absl::c_all_of(norm->values, [](float value) { return value == 0; })) {
        result.zero_tensors.push_back(norm->name);
      }
    }
    runners_.push_back({evaluated.source, &model, evaluated.inputs,
                        BlockForward(model, ComputeDType::kF32, static_cast<int64_t>(longest)),
                        *std::move(states)});
    return absl::OkStatus();
  }

  absl::Status RunBlock(int64_t layer) {
    std::vector<std::unique_ptr<BlockWeights>> blocks;
    std::vector<PreparedBlock> prepared;
    std::vector<HiddenStatesFile> leaving;
    for (const Runner& runner : runners_) {
      absl::StatusOr<BlockWeights> block =
          ReadBlock(*runner.source, *runner.model, layer, executor_);
      if (!block.ok()) return block.status();
      for (size_t i = 0; !runner.inputs.empty() && i < block->linears.size(); ++i) {
        block->linears[i].input = runner.inputs[static_cast<size_t>(layer)][i];
      }
      for (std::string& tensor :
           ZeroTensors(runner.model->blocks[static_cast<size_t>(layer)], *block)) {
        results_[blocks.size()].zero_tensors.push_back(std::move(tensor));
      }
      blocks.push_back(std::make_unique<BlockWeights>(*std::move(block)));
      absl::StatusOr<PreparedBlock> ready = runner.forward.Prepare(*blocks.back(), executor_);
      if (!ready.ok()) return ready.status();
      prepared.push_back(*std::move(ready));
      absl::StatusOr<HiddenStatesFile> states =
          CreateStates(leaving.size(), layer + 1, runner.model->config.hidden_size);
      if (!states.ok()) return states.status();
      leaving.push_back(*std::move(states));
    }
    // By row, then by model: sums are made in the order of the rows.
    std::vector<std::vector<SquaredError>> of_rows(tokens_.size());
    Mutex telling;
    const auto run = [&](int64_t row, Executor& inside) -> absl::Status {
      absl::StatusOr<std::vector<SquaredError>> errors = RunRow(row, prepared, leaving, inside);
      if (!errors.ok()) return errors.status();
      of_rows[static_cast<size_t>(row)] = *std::move(errors);
      const MutexLock lock(telling);
      return observer_.TokensDone(layer,
                                  static_cast<int64_t>(tokens_[static_cast<size_t>(row)].size()));
    };
    absl::Status status;
    if (SideBySide()) {
      RowExecutor alone(executor_);
      status = executor_.ForEach(static_cast<int64_t>(tokens_.size()),
                                 [&](int64_t row) { return run(row, alone); });
    } else {
      for (size_t row = 0; status.ok() && row < tokens_.size(); ++row) {
        status = run(static_cast<int64_t>(row), executor_);
      }
    }
    if (!status.ok()) return status;
    std::vector<SquaredError> errors(runners_.size());
    for (const std::vector<SquaredError>& of_row : of_rows) {
      for (size_t m = 0; m < errors.size(); ++m) {
        errors[m].error += of_row[m].error;
        errors[m].energy += of_row[m].energy;
      }
    }
    for (size_t m = 0; m < runners_.size(); ++m) {
      if (m > 0) {
        const SquaredError& error = errors[m];
        results_[m].layer_errors.push_back(error.energy > 0 ? error.error / error.energy : 0);
      }
      const std::string& prefix = runners_[m].model->blocks[static_cast<size_t>(layer)].prefix;
      results_[m].range.Add({leaving[m].Largest(), absl::StrCat("the residual stream leaving ",
                                                                absl::StripSuffix(prefix, "."))});
      runners_[m].entering = std::move(leaving[m]);
    }
    return absl::OkStatus();
  }

  bool SideBySide() const {
    int64_t longest = 0;
    for (const std::vector<int64_t>& row : tokens_) {
      longest = std::max(longest, static_cast<int64_t>(row.size()));
    }
    const int concurrency = executor_.Concurrency();
    return EvaluatesSideBySide(*runners_[0].model, longest, static_cast<int>(runners_.size()),
                               concurrency);
  }

  // Runs one row through a block of every model. Returns the distance of each model from the first.
  absl::StatusOr<std::vector<SquaredError>> RunRow(int64_t row,
                                                   const std::vector<PreparedBlock>& prepared,
                                                   std::vector<HiddenStatesFile>& leaving,
                                                   Executor& executor) const {
    std::vector<SquaredError> errors(runners_.size());
    Matrix reference;
    for (size_t m = 0; m < runners_.size(); ++m) {
      absl::StatusOr<Matrix> hidden = runners_[m].entering.ReadRow(row);
      if (!hidden.ok()) return hidden.status();
      hidden = runners_[m].forward.Run(prepared[m], *std::move(hidden), IgnoreGroup, executor);
      if (!hidden.ok()) return hidden.status();
      if (absl::Status status = leaving[m].WriteRow(row, *hidden); !status.ok()) return status;
      if (m == 0) {
        reference = *std::move(hidden);
      } else {
        errors[m] = Compare(reference, *hidden);
      }
    }
    return errors;
  }

  absl::Status RunHeads() {
    std::vector<RunModel> models;
    for (const Runner& runner : runners_) {
      models.push_back({runner.source, runner.model, &runner.entering});
    }
    const absl::StatusOr<std::vector<HeadScore>> scores =
        ScoreHeads(models, tokens_, observer_, executor_);
    if (!scores.ok()) return scores.status();
    for (size_t m = 0; m < results_.size(); ++m) {
      results_[m].likelihood = (*scores)[m].likelihood;
      results_[m].divergence = (*scores)[m].divergence;
    }
    return absl::OkStatus();
  }

  absl::Span<const std::vector<int64_t>> tokens_;
  const std::string& work_directory_;
  EvaluationObserver& observer_;
  Executor& executor_;
  std::vector<Runner> runners_;
  std::vector<ModelEvaluation> results_;
};

absl::Status CheckComparable(const ModelConfig& first, const ModelConfig& other) {
  for (const auto& [field, a, b] :
       {std::tuple{"vocab_size", first.vocab_size, other.vocab_size},
        std::tuple{"num_hidden_layers", first.num_hidden_layers, other.num_hidden_layers},
        std::tuple{"hidden_size", first.hidden_size, other.hidden_size}}) {
    if (a == b) continue;
    return absl::InvalidArgumentError(absl::StrCat(other.source, ": ", field, " is ", b,
                                                   "; expected ", a, ", that of ", first.source));
  }
  return absl::OkStatus();
}

}  // namespace

bool EvaluatesSideBySide(const Model& model, int64_t tokens, int models, int concurrency) {
  double flop = 0;
  for (const BlockPlan& block : model.blocks) flop = std::max(flop, LinearFlop(block, tokens));
  // f32 is half as fast as what the limit is meant for, or slower.
  return RunsSideBySide(2 * models * flop,
                        EvaluatedRowBytes(model, tokens, concurrency, /*side_by_side=*/true),
                        concurrency);
}

int64_t EvaluatedRowBytes(const Model& model, int64_t tokens, int concurrency, bool side_by_side) {
  const int rows = side_by_side ? concurrency : 1;
  const int64_t reference = tokens * model.config.hidden_size * static_cast<int64_t>(sizeof(float));
  int64_t most = 0;
  for (const BlockPlan& block : model.blocks) {
    most = std::max(most, BlockForward::MemoryBytes(model, block, ComputeDType::kF32, tokens,
                                                    concurrency / rows));
  }
  return rows * (reference + most);
}

absl::StatusOr<std::vector<ModelEvaluation>> EvaluateModels(
    absl::Span<const EvaluatedModel> models, absl::Span<const std::vector<int64_t>> tokens,
    const std::string& work_directory, EvaluationObserver& observer, Executor& executor) {
  if (models.empty()) {
    return absl::InvalidArgumentError("0 models to evaluate; expected at least 1");
  }
  if (tokens.empty()) {
    return absl::InvalidArgumentError("evaluation has 0 rows; expected at least 1");
  }
  for (size_t row = 0; row < tokens.size(); ++row) {
    if (tokens[row].size() >= 2) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "evaluation row ", row, " has ", tokens[row].size(), " tokens; expected at least 2"));
  }
  for (const EvaluatedModel& evaluated : models) {
    const Model& model = *evaluated.model;
    absl::Status status = CheckComparable(models[0].model->config, model.config);
    if (!status.ok()) return status;
    if (!evaluated.inputs.empty() && evaluated.inputs.size() != model.blocks.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(model.config.source, ": inputs of ", evaluated.inputs.size(),
                       " layers; expected of all ", model.blocks.size(), " or of none"));
    }
    status = CheckModelTensors(*evaluated.source, model);
    if (!status.ok()) return status;
  }
  return Evaluator(tokens, work_directory, observer, executor).Run(models);
}

}  // namespace salient
