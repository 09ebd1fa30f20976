// Converts element types on the wire and in files.
#ifndef SALIENT_CLIENT_TENSORS_DATA_TYPE_H_
#define SALIENT_CLIENT_TENSORS_DATA_TYPE_H_

#include <optional>

#include "core/tensor/dtype.h"
#include "salient/v1/tensor.pb.h"

namespace salient::client {

// Returns DATA_TYPE_UNSPECIFIED for a type that the wire does not have.
v1::DataType ToWire(DType dtype);

// Returns nullopt for unset and for values that a newer server may have.
std::optional<DType> FromWire(v1::DataType data_type);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_DATA_TYPE_H_
