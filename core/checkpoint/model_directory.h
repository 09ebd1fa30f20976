// Tells whether a path is the directory of a model, and what it is if it is not.
#ifndef SALIENT_CORE_CHECKPOINT_MODEL_DIRECTORY_H_
#define SALIENT_CORE_CHECKPOINT_MODEL_DIRECTORY_H_

#include <string>

#include "absl/status/status.h"

namespace salient {

// Returns OK if `path` is a directory with config.json and model.safetensors or its index, whatever
// they hold. Else NOT_FOUND or INVALID_ARGUMENT naming the path, what it seems to be (a name to
// download, a single file, the root of a download cache, an adapter, weights in another form ...)
// and what was expected.
absl::Status CheckIsModelDirectory(const std::string& path);

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_MODEL_DIRECTORY_H_
