// Rounds a group of Linears so that none of them errs by more than a limit.
#ifndef SALIENT_CORE_QUANTIZE_LIMIT_ERROR_H_
#define SALIENT_CORE_QUANTIZE_LIMIT_ERROR_H_

#include <string>

#include "absl/status/statusor.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/pack/stored_format.h"
#include "core/parallel/executor.h"
#include "core/result/quantizable_groups.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

struct LimitedGroup {
  // The group has a note that says why, if it was raised. Nothing is packed if it stays F16: its
  // report then has no loss and 16 bits.
  RoundedGroup rounded;
  WeightFormat format;     // Its codes have it.
  bool raised = false;     // It is above the limit in the format that was asked for.
  bool stays_f16 = false;  // Then 8 bits are no choice or not enough.
  std::string why;         // It says in a sentence why it was raised; else it is empty.
};

// Calls RoundGroup in fit.format; if a Linear's relative_output_error is above
// `max_relative_error`, all of the group in fit.wider; if that is no choice or above it, too, F16.
// 0: no limit. Errors are those of RoundGroup.
absl::StatusOr<LimitedGroup> RoundWithinLimit(const GroupInput& group, const Method& method,
                                              const StoredFormat& stored, const GroupFit& fit,
                                              double max_relative_error, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_LIMIT_ERROR_H_
