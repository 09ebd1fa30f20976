// Holds what a client of QuantizeTensors says, free of the transport that brought it. Field by
// field the messages of proto/salient/v1/quantize_tensors.proto, where their meaning is written.
#ifndef SALIENT_SERVER_CALLS_CALL_MESSAGES_H_
#define SALIENT_SERVER_CALLS_CALL_MESSAGES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/method/scale_awq.h"
#include "core/method/scale_candidates.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient {

struct CallOptions {
  Method method;
  StoredFormat stored;
  uint64_t seed = 0;
};

struct LinearSpec {
  std::string name;
  DType dtype = DType::kF32;
  int64_t out_features = 0;
};

struct GroupSpec {
  std::string name;
  int64_t in_features = 0;
  std::vector<LinearSpec> linears;
  std::optional<DType> activation_dtype;  // Only activations need it.
  std::optional<TiedHeads> tied_heads;
};

struct ChunkData {
  int64_t offset_bytes = 0;
  std::string data;
  std::optional<uint32_t> crc32c;
};

struct WeightData {
  int64_t linear_index = 0;
  ChunkData chunk;
};

struct ActivationData {
  int64_t calibration_row = 0;
  int64_t first_position = 0;
  std::string data;
  std::optional<uint32_t> crc32c;
};

struct StatisticsData {
  ChunkData chunk;
  int64_t total_bytes = 0;
};

struct EndGroupMark {};

using CallMessage =
    std::variant<CallOptions, GroupSpec, WeightData, ActivationData, StatisticsData, EndGroupMark>;

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_CALL_MESSAGES_H_
