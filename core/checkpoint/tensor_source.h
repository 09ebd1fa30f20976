// Says where the tensors of a model come from: a directory, or bytes that are still arriving.
#ifndef SALIENT_CORE_CHECKPOINT_TENSOR_SOURCE_H_
#define SALIENT_CORE_CHECKPOINT_TENSOR_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/safetensors/safetensors.h"

namespace salient {

// Borrows from the source it came from.
struct TensorLocation {
  absl::string_view file;  // Errors name it so.
  const TensorEntry* entry = nullptr;
};

// Implementations are thread-safe.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // Returns the name that errors give to the whole.
  virtual const std::string& name() const = 0;

  // Returns NOT_FOUND if no file holds it.
  virtual absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const = 0;

  // Returns whether its bytes can be read without waiting for them to arrive; false if no file
  // holds it.
  virtual bool IsHere(absl::string_view tensor) const { return Find(tensor).ok(); }

  // Fills `bytes` from byte `offset` of the tensor. May wait until they have arrived. Its errors
  // are those of Find; OUT_OF_RANGE if the tensor has fewer bytes; DATA_LOSS if the file changed
  // under us.
  virtual absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                                 absl::Span<std::byte> bytes) const = 0;
};

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_TENSOR_SOURCE_H_
