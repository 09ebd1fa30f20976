// Is a finished tensor with its bytes: what packing returns and what is streamed or written.
#ifndef SALIENT_CORE_TENSOR_NAMED_TENSOR_H_
#define SALIENT_CORE_TENSOR_NAMED_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"

namespace salient {

// `data` holds product(shape) * SizeOf(dtype) bytes, row-major, little-endian.
struct NamedTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> data;
};

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_NAMED_TENSOR_H_
