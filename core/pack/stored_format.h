// Says what a stored format is called, and which combinations there are.
#ifndef SALIENT_CORE_PACK_STORED_FORMAT_H_
#define SALIENT_CORE_PACK_STORED_FORMAT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "core/tensor/stored_format.h"  // IWYU pragma: export

namespace salient {

// Names it as flags and reports have them: "awq-gemm", "gptq", "gptq-v2", "compressed-tensors" ...
absl::string_view Name(OutputFormat output);
// Returns "none", "dynamic" or "static".
absl::string_view Name(ActivationFormat activations);

// Says why there is no such format, whatever the model.
struct FormatFault {
  std::string field;     // It is bits, group_size, symmetric, scale_dtype or activations.
  std::string value;     // The field has it.
  std::string expected;  // It names the nearest combination that there is, too.
};

// Returns the first fault of the combination alone; nullopt if some Linear can be stored so. Bits
// and group_size are those that a WeightFormat can have.
std::optional<FormatFault> FindFormatFault(const StoredFormat& stored);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_STORED_FORMAT_H_
