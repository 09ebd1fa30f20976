// What people call what the API has other names for.
#ifndef SALIENT_CLIENT_FLAG_NAMES_H_
#define SALIENT_CLIENT_FLAG_NAMES_H_

#include "absl/status/status.h"

namespace salient::client {

// `status` of a server, with fields of the request that a flag sets
// ("spec.quantize.formats[0].bits", "quantize.overrides") called as the flag is. All else stays.
absl::Status InFlags(const absl::Status& status);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_FLAG_NAMES_H_
