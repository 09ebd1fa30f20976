// Shows what the groups of a block read while its forward pass runs.
#ifndef SALIENT_CORE_MODEL_GROUP_OBSERVER_H_
#define SALIENT_CORE_MODEL_GROUP_OBSERVER_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/model/activations.h"

namespace salient {

// Receives what a group of Linears reads, exactly and before it is rounded for them: tokens() rows
// of features(), F32 or BF16, valid during the call. Called on the thread that runs the forward
// pass, outside of any task, in the order of BlockPlan::groups, which `group` is a place in.
using GroupObserver = absl::FunctionRef<absl::Status(size_t group, const Activations& input)>;

// Serves callers that want the result alone.
inline absl::Status IgnoreGroup(size_t /*group*/, const Activations& /*input*/) {
  return absl::OkStatus();
}

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_GROUP_OBSERVER_H_
