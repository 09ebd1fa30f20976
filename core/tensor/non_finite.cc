#include "core/tensor/non_finite.h"

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

}  // namespace salient
