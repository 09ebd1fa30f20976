// Reads one entry of a safetensors header, and checks it against itself.
#ifndef SALIENT_CORE_SAFETENSORS_ENTRY_H_
#define SALIENT_CORE_SAFETENSORS_ENTRY_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/config/json.h"
#include "core/safetensors/safetensors.h"

namespace salient {

struct ReadTensorEntry {
  TensorEntry entry;  // Its dtype means nothing if it is not readable.
  // This is the name of the dtype if DType lacks it.
  std::optional<std::string> unreadable;
};

// Returns INVALID_ARGUMENT: "<source>: tensor <name>: <what>".
absl::Status InvalidTensorEntry(absl::string_view source, absl::string_view name,
                                absl::string_view what);

// Reads the object or array that stands under `name`. Errors: INVALID_ARGUMENT naming source,
// tensor, field, value and what was expected.
absl::StatusOr<ReadTensorEntry> ReadSafetensorsEntry(absl::string_view source,
                                                     const std::string& name,
                                                     const JsonValue& value);

}  // namespace salient

#endif  // SALIENT_CORE_SAFETENSORS_ENTRY_H_
