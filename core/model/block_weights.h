// The weights of one decoder block, checked and held in the dtype they were stored in.
#ifndef SALIENT_CORE_MODEL_BLOCK_WEIGHTS_H_
#define SALIENT_CORE_MODEL_BLOCK_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Holds a norm's weight, a bias or the filters of a convolution: widened exactly, with the dtype to
// narrow it to again.
struct StoredVector {
  std::string name;  // It is that of the tensor.
  DType dtype = DType::kF32;
  std::vector<float> values;        // They are empty if the model has none.
  std::vector<int64_t> shape = {};  // It is that of the tensor; empty stands for [values].
};

// Says what an engine does to the input of a Linear before it multiplies.
struct InputRounding {
  ActivationFormat format = ActivationFormat::kNone;
  float step = 0;  // With kStaticTensor one code is worth so much, > 0.

  bool operator==(const InputRounding&) const = default;
};

struct StoredLinear {
  std::string name;  // It is the module's: weight is "<name>.weight", bias "<name>.bias".
  DType dtype = DType::kF32;
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::vector<std::byte> weight;  // It is [out_features, in_features] of dtype.
  StoredVector bias;
  // No source says it: there is none, unless whoever read the block sets it.
  InputRounding input;

  WeightView View() const { return {dtype, weight.data(), out_features, in_features}; }
};

struct BlockWeights {
  int64_t layer = 0;
  std::vector<StoredVector> vectors;  // They stand as BlockPlan::vectors.
  std::vector<StoredLinear> linears;  // They stand as BlockPlan::linears.
};

// Looks at headers alone. Returns INVALID_ARGUMENT naming file, tensor, dtype or shape and what the
// config makes expected, if `spec` is missing, has another shape or is not F32, F16 or BF16.
absl::StatusOr<TensorLocation> FindTensor(const TensorSource& source, const ModelConfig& config,
                                          const TensorSpec& spec);

// Returns `status`, a fault in the content of `tensor`, with the file that the tensor lies in
// before it.
absl::Status InItsFile(const TensorSource& source, absl::string_view tensor,
                       const absl::Status& status);

// Calls FindTensor for every tensor of the model: that is all that can be judged before any work.
absl::Status CheckModelTensors(const TensorSource& source, const Model& model);

// Reads and widens a vector. Its errors are those of FindTensor and the source; INVALID_ARGUMENT
// for a NaN or infinity (names file, tensor, position).
absl::StatusOr<StoredVector> ReadVector(const TensorSource& source, const ModelConfig& config,
                                        const TensorSpec& spec);

// Do the two halves of ReadBlock: the bytes, and whether all of them are numbers. Their errors are
// its.
absl::StatusOr<BlockWeights> ReadUncheckedBlock(const TensorSource& source, const Model& model,
                                                int64_t layer, Executor& executor);
absl::Status CheckBlock(const TensorSource& source, const BlockWeights& block, Executor& executor);

// Reads block `layer`. Errors: as FindTensor and the source; INVALID_ARGUMENT for a NaN or
// infinity (names file, tensor, row, column).
absl::StatusOr<BlockWeights> ReadBlock(const TensorSource& source, const Model& model,
                                       int64_t layer, Executor& executor);

// Returns the names of norms' factors and weights of Linears that are 0 in every element, as in a
// damaged download or a cut model.
std::vector<std::string> ZeroTensors(const BlockPlan& plan, const BlockWeights& block);

// Returns "model.norm.weight and 3 more tensors: every element is 0; expected trained weights".
// Takes one name at least.
std::string DescribeZero(absl::Span<const std::string> tensors);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCK_WEIGHTS_H_
