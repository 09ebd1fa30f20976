// Makes the error of a number that no result can hold: NaN, an infinity, or more than a dtype's
// range.
#ifndef SALIENT_CORE_TENSOR_NON_FINITE_H_
#define SALIENT_CORE_TENSOR_NON_FINITE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace salient {

// Returns INVALID_ARGUMENT that IsNonFinite knows, so that callers need not read messages.
absl::Status NonFiniteError(absl::string_view message);

bool IsNonFinite(const absl::Status& status);

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_NON_FINITE_H_
