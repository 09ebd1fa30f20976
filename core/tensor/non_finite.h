// Finds a number that no result can hold, NaN or an infinity, and makes its error.
#ifndef SALIENT_CORE_TENSOR_NON_FINITE_H_
#define SALIENT_CORE_TENSOR_NON_FINITE_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace salient {

// Returns INVALID_ARGUMENT that IsNonFinite knows, so that callers need not read messages.
absl::Status NonFiniteError(absl::string_view message);

bool IsNonFinite(const absl::Status& status);

// Returns the index of the first of `count` values that is NaN or infinite; nullopt if all are
// finite.
std::optional<int64_t> FirstNonFinite(const float* values, int64_t count);

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_NON_FINITE_H_
