// From a plan and two files to the messages of one QuantizeTensors call.
#ifndef SALIENT_CLIENT_TENSORS_REQUEST_WRITER_H_
#define SALIENT_CLIENT_TENSORS_REQUEST_WRITER_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "client/tensors/plan.h"
#include "core/safetensors/safetensors.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

// Holds what a call sends. Borrows all of it.
struct TensorsInput {
  const TensorsPlan& plan;
  const SafetensorsFile& weights;
  const SafetensorsFile& activations;
  const v1::QuantizeTensorsOptions& options;
  // Chunk.data and ActivationBatch.data have at most so many.
  int64_t chunk_bytes = 0;
};

// Takes one message that carries `payload_bytes` of tensors. False: nobody wants more.
using SendRequest =
    absl::FunctionRef<bool(const v1::QuantizeTensorsRequest& request, int64_t payload_bytes)>;

// Sends options, then each group: header, weights in chunks, calibration rows in batches of whole
// tokens, end. Every payload has a crc32c. One message is in memory at a time; its bytes come
// straight from the file.
//
// Errors: INVALID_ARGUMENT if a token is larger than chunk_bytes; what reading gives. Stops with
// OK when `send` returns false: whoever refused knows why.
absl::Status WriteRequests(const TensorsInput& input, SendRequest send);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_REQUEST_WRITER_H_
