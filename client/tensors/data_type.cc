#include "client/tensors/data_type.h"

#include "absl/strings/ascii.h"
#include "client/options/enum_text.h"

namespace salient::client {

// The contract names element types as safetensors files do.
v1::DataType ToWire(DType dtype) {
  return EnumNamed<v1::DataType>(absl::AsciiStrToLower(Name(dtype)))
      .value_or(v1::DATA_TYPE_UNSPECIFIED);
}

std::optional<DType> FromWire(v1::DataType data_type) {
  return ParseDType(absl::AsciiStrToUpper(EnumText(data_type)));
}

}  // namespace salient::client
