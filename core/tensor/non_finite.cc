#include "core/tensor/non_finite.h"

#include <bit>
#include <cmath>

#include "absl/strings/cord.h"

namespace salient {
namespace {

constexpr char kPayload[] = "salient/non_finite";

}  // namespace

absl::Status NonFiniteError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kPayload, absl::Cord());
  return status;
}

bool IsNonFinite(const absl::Status& status) { return status.GetPayload(kPayload).has_value(); }

std::optional<int64_t> FirstNonFinite(const float* values, int64_t count) {
  // An all-ones exponent is what NaN and infinity share; OR-ing the test keeps the loop free
  // of branches, the position is looked for only when it is needed.
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    bad |= (std::bit_cast<uint32_t>(values[i]) & 0x7F800000u) == 0x7F800000u ? 1u : 0u;
  }
  for (int64_t i = 0; bad != 0 && i < count; ++i) {
    if (!std::isfinite(values[i])) return i;
  }
  return std::nullopt;
}

}  // namespace salient
