// How much arithmetic each stage of a run does, from shapes alone: what its loops run through.
#ifndef SALIENT_CORE_WORK_COUNT_H_
#define SALIENT_CORE_WORK_COUNT_H_

#include <cstdint>

#include "core/checkpoint/model_config.h"
#include "core/method/method.h"
#include "core/model/family.h"
#include "core/model/projection.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// Adds up as its methods are called, in the units of ModelCost (model_cost.h). Borrows both.
class WorkCount {
 public:
  WorkCount(const Family& family, const ModelConfig& config);

  double gemm_flop() const { return gemm_flop_; }
  double vector_flop() const { return vector_flop_; }
  int64_t block_parameters() const { return block_parameters_; }  // weights of one block's Linears

  // All so far, `times` times.
  void Repeat(double times);
  void Add(const WorkCount& other);

  // One block's weights read and checked; decoded on the way if they are packed or to be rounded.
  void ReadBlock(bool decoded);
  // BlockForward::Run of a row.
  void Forward(int64_t tokens, ComputeDType compute);
  // A row of a group's input into its statistics.
  void Fold(int64_t tokens, const StatisticsParams& params);
  // QuantizeGroup of `linears` Linears with `weights` elements in all.
  void Group(double linears, double weights, const StatisticsParams& params, const Method& method,
             const WeightFormat& format);
  // Logits of a row in f32 and its likelihood; if `compared`, also its divergence from another's.
  void Head(int64_t tokens, bool compared);
  // The residual stream of a row beside another's.
  void CompareStates(int64_t tokens);

 private:
  // input [tokens, in] times a stored weight [out, in].
  void Product(double tokens, double out, double in, ComputeDType compute);
  // LossModel::Evaluate of errors of `weights` elements.
  void Evaluate(double weights, const StatisticsParams& params);
  void RoundBlock(double linears, double weights, double in, const RoundBlockParams& params);

  const Family& family_;
  const ModelConfig& config_;
  int64_t block_parameters_ = 0;
  double gemm_flop_ = 0;
  double vector_flop_ = 0;
};

}  // namespace salient

#endif  // SALIENT_CORE_WORK_COUNT_H_
