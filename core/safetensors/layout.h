// A safetensors file whose tensors are known by name, type and shape before any of their bytes
// are: its header comes first, the bytes later, in any order.
#ifndef SALIENT_CORE_SAFETENSORS_LAYOUT_H_
#define SALIENT_CORE_SAFETENSORS_LAYOUT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/dtype.h"

namespace salient {

// A tensor to be.
struct TensorShape {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  // Returns product(shape) * SizeOf(dtype); 0 for a negative dimension or a product beyond 2^63,
  // which LayOutSafetensors refuses.
  int64_t SizeBytes() const;
};

// Says where everything stands. It is immutable.
struct SafetensorsLayout {
  struct Place {
    TensorShape tensor;
    int64_t begin = 0;  // It counts bytes from the start of the file.
    int64_t end = 0;
  };
  std::string head;           // Length and JSON are the file's first bytes.
  std::vector<Place> places;  // They stand in the order of the file.
  int64_t file_bytes = 0;
};

// Lays tensors out in the reference writer's order, as SerializeSafetensors does: the same tensors
// give the same file either way. Errors: INVALID_ARGUMENT for what the reader would refuse (names
// `source` and the tensor).
absl::StatusOr<SafetensorsLayout> LayOutSafetensors(
    absl::string_view source, absl::Span<const TensorShape> tensors,
    const std::map<std::string, std::string>& metadata);

}  // namespace salient

#endif  // SALIENT_CORE_SAFETENSORS_LAYOUT_H_
