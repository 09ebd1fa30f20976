// Is the block loop: a checkpoint and calibration rows in, a stream of finished tensors out.
//
// For each decoder block: run every calibration row through it in full precision, fold what its
// groups of Linears read into statistics, write the hidden states that leave it, search, quantize,
// emit, forget. The weights of the next block are read while one is quantized. Later blocks see
// full-precision activations, so blocks do not depend on each other's quantization and memory is a
// block's, not the model's.
#ifndef SALIENT_CORE_QUANTIZE_QUANTIZE_MODEL_H_
#define SALIENT_CORE_QUANTIZE_QUANTIZE_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/model/activation_range.h"
#include "core/model/activations.h"
#include "core/model/model.h"
#include "core/model/projection.h"
#include "core/parallel/executor.h"
#include "core/result/module_override.h"
#include "core/result/raised_group.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"

namespace salient {

struct QuantizeModelParams {
  Method method;
  // Says what results are made, at least one. The model is calibrated once for all; results that
  // differ in their layout alone (see ShareResults) are searched and rounded once.
  std::vector<StoredFormat> outputs = std::vector<StoredFormat>(1);
  ComputeDType compute = ComputeDType::kBF16;  // It is that of the calibration forward pass.
  uint64_t seed = 0;                           // It is that of the sketch and the token sample.
  // This makes a group that the format cannot hold an error instead of kept.
  bool strict = false;
  std::vector<ModuleOverride> overrides = {};
  // If a Linear's relative output error is above it, its group is quantized again in 8 bits, where
  // the layout holds widths side by side and that is enough; else it is kept. 0: no limit.
  double max_relative_error = 0;
  // The directory exists and takes the files of hidden states, three at most. A committed file of
  // an earlier run with the same rows is continued from.
  std::string work_directory;
};

// Receives results in order. An error stops the run and is returned from it.
class QuantizedModelSink {
 public:
  virtual ~QuantizedModelSink() = default;

  // Takes tensors of decoder block `block` for `output`, an index: packed Linears, and what stays
  // plain (norms, biases, Linears that were kept). Their names are the source's, with the packed
  // suffixes. They may go out later than this returns, but are out when the next call of it returns
  // OK.
  virtual absl::Status TensorsDone(int64_t block, size_t output,
                                   std::vector<NamedTensor> tensors) = 0;
  // Tells that all outputs had their tensors of this block.
  virtual absl::Status BlockDone(int64_t /*block*/) { return absl::OkStatus(); }
  // Returns whether the tensors of this block, which was handed over, are out: no later run is to
  // make them again.
  virtual bool IsOut(int64_t /*block*/) const { return true; }
  virtual absl::Status GroupDone(size_t output, const GroupReport& report) = 0;
  // Tells of a Linear that is not quantized although nobody asked for that, and why, in a sentence.
  virtual absl::Status Kept(size_t output, const std::string& module, const std::string& why) = 0;
  // Tells of a group above the limit of error. A run that goes on where another stopped tells
  // again, before anything else, what that one told of the blocks that are out.
  virtual absl::Status Raised(const RaisedGroup& /*group*/) { return absl::OkStatus(); }
  // Tells the largest activation of the calibration so far, each time that it has grown: of what
  // enters and leaves blocks and of what Linears read. A run that goes on where another stopped
  // tells first how far that one had seen them reach.
  virtual absl::Status RangeGrew(const ActivationRange& /*range*/) { return absl::OkStatus(); }
  // Tells of norms and weights of Linears of one block that are 0 in every element.
  virtual absl::Status AllZero(const std::vector<std::string>& /*tensors*/) {
    return absl::OkStatus();
  }
  // Tells that `tokens` more calibration tokens went through block `block`. It is called from any
  // thread, while no other call is under way.
  virtual absl::Status TokensDone(int64_t block, int64_t tokens) = 0;
};

// Quantizes every decoder block of the model. Tensors outside the blocks (embeddings, final norm,
// head) are not touched and not emitted. `calibration` holds token ids, one vector a row.
//
// s of o_proj is folded into v_proj and that of down_proj into up_proj before these are quantized
// themselves; s of q/k/v and gate/up into the preceding norm. A norm's weight and a bias of v_proj
// or up_proj are rounded to their stored dtype (plain_dtypes.h) first: s is then the quotient of
// the two, so the fold is exact.
//
// Each result that shares nothing folds its own scales, so the block's weights are copied for all
// but the last of them, one at a time.
//
// Errors: INVALID_ARGUMENT for an empty calibration, a limit of error that is negative or no
// number, a row without tokens or an id outside the vocabulary, a model whose every Linear would be
// kept, a norm, bias or kept weight that its dtype cannot hold (names tensor, position, value);
// those of the source, of QuantizeGroup and of the sink; CANCELLED from the executor. The committed
// hidden states stay for the next run.
absl::Status QuantizeModel(const TensorSource& source, const Model& model,
                           absl::Span<const std::vector<int64_t>> calibration,
                           const QuantizeModelParams& params, QuantizedModelSink& sink,
                           Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_QUANTIZE_MODEL_H_
