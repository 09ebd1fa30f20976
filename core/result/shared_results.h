// Finds which of several results are the same but for their layout, so that one search and one
// rounding serves them.
#ifndef SALIENT_CORE_RESULT_SHARED_RESULTS_H_
#define SALIENT_CORE_RESULT_SHARED_RESULTS_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/model.h"
#include "core/result/module_override.h"
#include "core/result/quantizable_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

// Results that agree on format, activations and whether they are quantized at all, on which groups
// they hold, and, if errors are limited, on what a group above the limit gets.
struct SharedResult {
  std::vector<size_t> outputs;  // They are indices, rising; the first stands for all.
  // They are those of the first: sentences may differ, what is done does not.
  std::vector<BlockFits> fits;
};

// Returns shared results in the order of their first outputs; each output is in one. Errors:
// INVALID_ARGUMENT for no output; those of QuantizableGroups, which are named by layout if there
// are several.
absl::StatusOr<std::vector<SharedResult>> ShareResults(const Model& model,
                                                       absl::Span<const StoredFormat> outputs,
                                                       bool strict,
                                                       absl::Span<const ModuleOverride> overrides,
                                                       bool limits_error);

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_SHARED_RESULTS_H_
