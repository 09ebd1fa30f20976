// Flags that say what is different for one result or one Linear: a name, a colon and settings.
#ifndef SALIENT_CLIENT_OPTIONS_FORMAT_H_
#define SALIENT_CLIENT_OPTIONS_FORMAT_H_

#include <string>

#include "absl/status/statusor.h"
#include "client/options/method.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/method.pb.h"

namespace salient::client {

// Parses "compressed-tensors", or "compressed-tensors:bits=8,group_size=-1" where it differs from
// --bits and --group-size. Returns INVALID_ARGUMENT naming the flag, its value and what was
// expected.
absl::StatusOr<v1::WeightFormat> ParseFormat(const MethodOptions& options, const std::string& flag);

// Parses "model.layers.0.mlp.down_proj:bits=8", ":group_size=64", both with a comma between, or
// ":skip". Its errors are those of above; whether there is such a module is for the server to say.
absl::StatusOr<v1::ModuleOverride> ParseOverride(const std::string& flag);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_FORMAT_H_
