// Replaces the API's names of fields by the flags that set them.
#ifndef SALIENT_CLIENT_OPTIONS_FLAG_NAMES_H_
#define SALIENT_CLIENT_OPTIONS_FLAG_NAMES_H_

#include "absl/status/status.h"

namespace salient::client {

// Returns `status` of a server with fields of the request ("spec.quantize.formats[0].bits",
// "quantize.overrides") replaced by the flags that set them, or the names of what stands on the
// command line. All else stays.
absl::Status InFlags(const absl::Status& status);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_FLAG_NAMES_H_
