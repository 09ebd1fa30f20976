// Tells whether a checkpoint has a head of its own although its config says that it is tied to the
// embeddings. transformers and vLLM keep such a head, and tie one that is a copy.
#ifndef SALIENT_CORE_MODEL_OWN_HEAD_H_
#define SALIENT_CORE_MODEL_OWN_HEAD_H_

#include "absl/status/statusor.h"
#include "core/checkpoint/tensor_source.h"
#include "core/model/model.h"

namespace salient {

enum class HeadComparison {
  // It takes some rows at even distances, 2 MiB at most: heads that were trained differ everywhere.
  kSample,
  kWhole,  // It goes up to the first difference.
};

// Returns whether the config ties the head and the checkpoint stores one.
bool StoresTiedHead(const TensorSource& source, const Model& model);

// Returns whether in addition its values differ from those of the embeddings. May wait for bytes of
// both. Its errors are those of FindTensor and of the source.
absl::StatusOr<bool> HasOwnHead(const TensorSource& source, const Model& model,
                                HeadComparison comparison);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_OWN_HEAD_H_
