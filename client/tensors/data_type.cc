#include "client/tensors/data_type.h"

#include <utility>

namespace salient::client {
namespace {

constexpr std::pair<DType, v1::DataType> kTypes[] = {
    {DType::kF32, v1::DATA_TYPE_F32},   {DType::kF16, v1::DATA_TYPE_F16},
    {DType::kBF16, v1::DATA_TYPE_BF16}, {DType::kI32, v1::DATA_TYPE_I32},
    {DType::kI64, v1::DATA_TYPE_I64},   {DType::kI8, v1::DATA_TYPE_I8},
    {DType::kU8, v1::DATA_TYPE_U8},
};

}  // namespace

v1::DataType ToWire(DType dtype) {
  for (const auto& [ours, wire] : kTypes) {
    if (ours == dtype) return wire;
  }
  return v1::DATA_TYPE_UNSPECIFIED;
}

std::optional<DType> FromWire(v1::DataType data_type) {
  for (const auto& [ours, wire] : kTypes) {
    if (wire == data_type) return ours;
  }
  return std::nullopt;
}

}  // namespace salient::client
