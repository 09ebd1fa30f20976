// Tells what a file is that should be safetensors and is not.
#ifndef SALIENT_CORE_SAFETENSORS_FILE_KIND_H_
#define SALIENT_CORE_SAFETENSORS_FILE_KIND_H_

#include "absl/strings/string_view.h"

namespace salient {

// Says what a file whose first bytes are `begin` (8 are enough) seems to be, and what helps: "a
// GGUF file ...". Empty if they say nothing.
absl::string_view KindOfFile(absl::string_view begin);

}  // namespace salient

#endif  // SALIENT_CORE_SAFETENSORS_FILE_KIND_H_
