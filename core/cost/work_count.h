// Counts how much arithmetic each stage of a run does, from shapes alone: what its loops run
// through.
#ifndef SALIENT_CORE_COST_WORK_COUNT_H_
#define SALIENT_CORE_COST_WORK_COUNT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/model.h"
#include "core/model/projection.h"
#include "core/pack/stored_format.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/stored_format.h"

namespace salient {

// Work by the kind of arithmetic that does it, because each has a rate of its own.
struct Work {
  double bf16_flop = 0;  // It counts matrix products whose factors are bfloat16.
  double f32_flop = 0;   // It counts matrix products whose factors are f32.
  // It counts elementwise or latency-bound operations of SpeedProbe::Vector.
  double vector_flop = 0;
  // Operands and results, each once: what has to come from memory, or in read and write from disk,
  // however good the caches are.
  double bytes = 0;

  Work& operator+=(const Work& other);
  Work& operator*=(double times);
};

using StageWork = std::array<Work, kStages>;  // It stands by Stage.

// Adds up as its methods are called, for blocks like `block` of the model. Borrows both.
class WorkCount {
 public:
  WorkCount(const Model& model, const BlockPlan& block);

  const StageWork& stages() const { return stages_; }
  // Returns the weights of one block's Linears.
  int64_t block_parameters() const { return block_parameters_; }

  // Counts all so far `times` times.
  void Repeat(double times);
  void Add(const WorkCount& other);

  // Counts one block's weights, read and checked, and decoded on the way if they are packed or to
  // be rounded.
  void ReadBlock(bool decoded);
  // Counts BlockForward::Run of a row.
  void Forward(int64_t tokens, ComputeDType compute);
  // Counts a row of a group's input, of this dtype, into its statistics.
  void Fold(int64_t tokens, const StatisticsParams& params, ComputeDType compute);
  // Counts QuantizeGroup of `linears` Linears with `weights` elements in all.
  void Group(double linears, double weights, const StatisticsParams& params, const Method& method,
             const StoredFormat& stored);
  // Counts StudyBlock's part of the same: `choices` roundings and their losses, and that of no
  // weight.
  void Study(double linears, double weights, const StatisticsParams& params, double choices);
  // Logits of a row in f32 and its likelihood; if `compared`, also its divergence from another's.
  void Head(int64_t tokens, bool compared);
  // Counts the residual stream of a row beside another's.
  void CompareStates(int64_t tokens);
  // Counts bytes of results.
  void Write(double bytes) { At(Stage::kWrite).bytes += bytes; }

 private:
  Work& At(Stage stage) { return stages_[static_cast<size_t>(stage)]; }
  // Counts input [tokens, in] times a stored weight [out, in].
  void Mix(const BlockPlan& block, const AttentionPlan& attention, double padded);
  void Mix(const BlockPlan& block, const MlpPlan& mlp, double padded);
  void Mix(const BlockPlan& block, const ShortConvolutionPlan& convolution, double padded);
  // input [tokens, in] times a stored weight [out, in].
  void Product(Stage stage, double tokens, double out, double in, ComputeDType compute);
  // Counts LossModel::Evaluate of errors of `weights` elements.
  void Evaluate(Stage stage, double weights, const StatisticsParams& params);
  // Counts the same of SearchLoss, in bfloat16.
  void Compare(Stage stage, double weights, const StatisticsParams& params);
  void Search(double weights, const StatisticsParams& params, const Method& method, bool on_sample);
  // Counts `times` losses of ActivationLoss.
  void MeasureOnSample(Stage stage, double times, double weights, const StatisticsParams& params);
  void RoundBlock(double weights, double in, const RoundBlockParams& params);
  void RoundGptq(double weights, double in, double group, const RoundGptqParams& params);

  const Model& model_;
  const BlockPlan& block_;
  double stored_bytes_;  // of a weight
  int64_t block_parameters_ = 0;
  StageWork stages_;
};

}  // namespace salient

#endif  // SALIENT_CORE_COST_WORK_COUNT_H_
