// Turns finished Linears into the tensors of their layout: what each layout can hold, what its
// tensors are called, and their bytes. One place per layout to add: a file pair in pack/ and a case
// here.
#ifndef SALIENT_CORE_GROUP_PACK_LINEARS_H_
#define SALIENT_CORE_GROUP_PACK_LINEARS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/pack/stored_format.h"
#include "core/parallel/executor.h"
#include "core/safetensors/layout.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Is a Linear that is finished but for its layout. It borrows.
struct FinishedLinear {
  std::string name;                      // It is the module path, the prefix of its tensors' names.
  WeightView weight;                     // It is as it came.
  absl::Span<const float> scales;        // s [in_features] multiplies its columns.
  const AffineGroups* groups = nullptr;  // They are those of w s; null under kScaledFp16.
  // With kStaticTensor one step of the activations is worth so much, > 0.
  float input_scale = 0;
};

// Checks whether the layout can hold a Linear of this shape in this format. Returns
// INVALID_ARGUMENT naming the Linear, the field, the value, what was expected and, where there is
// one, the nearest layout or format that can.
absl::Status CheckLayout(const std::string& name, int64_t out_features, int64_t in_features,
                         const StoredFormat& stored);

// Returns names, dtypes and shapes of what PackLinears makes of a Linear that passed CheckLayout.
std::vector<TensorShape> PackedTensors(const std::string& module, int64_t out_features,
                                       int64_t in_features, const StoredFormat& stored);

// Returns the tensors of each Linear, in input order. Returns INVALID_ARGUMENT naming tensor, row,
// column and value for what F16 cannot hold; CANCELLED from the executor.
absl::StatusOr<std::vector<std::vector<NamedTensor>>> PackLinears(
    absl::Span<const FinishedLinear> linears, const StoredFormat& stored, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_PACK_LINEARS_H_
