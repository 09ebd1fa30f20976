// Names the element types of tensors as safetensors files do.
#ifndef SALIENT_CORE_TENSOR_DTYPE_H_
#define SALIENT_CORE_TENSOR_DTYPE_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace salient {

// The order is the one in which the reference safetensors writer sorts tensors
// (descending): wider elements first, so that every tensor is aligned to its size.
enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64
};

// Returns the bytes of one element.
int64_t SizeOf(DType dtype);

// Returns "F16", "BF16", "I32" ...
absl::string_view Name(DType dtype);

// Case-sensitive inverse of Name; nullopt for a name we do not know.
std::optional<DType> ParseDType(absl::string_view name);

// Returns true for the types that weights and activations may come in: F32, F16, BF16.
bool IsFloat(DType dtype);

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_DTYPE_H_
