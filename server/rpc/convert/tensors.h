// Converts QuantizeTensors and GetServerInfo between the contract's messages and our own types.
#ifndef SALIENT_SERVER_RPC_CONVERT_TENSORS_H_
#define SALIENT_SERVER_RPC_CONVERT_TENSORS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "salient/v1/quantization_service.pb.h"
#include "server/calls/call_messages.h"
#include "server/calls/call_registry.h"
#include "server/calls/result_queue.h"
#include "server/calls/tensor_call.h"

namespace salient {

// Takes the bytes of `request`. Errors carry reason and field (call_error.h):
// MESSAGE_ORDER if nothing is set; BAD_METHOD, BAD_FORMAT or BAD_HEADER for a value out of range
// or an enum value that does not exist; UNSUPPORTED (UNIMPLEMENTED) for a choice that this
// server does not have, with the nearest that it has.
absl::StatusOr<CallMessage> ToCallMessage(v1::QuantizeTensorsRequest&& request);

// Returns the response that carries `result`, tensor bytes with their crc32c.
v1::QuantizeTensorsResponse ToResponse(const OutgoingResult& result);

// Says what a server of these settings can do.
v1::GetServerInfoResponse ToServerInfo(const CallRegistry::Settings& settings,
                                       absl::string_view version, absl::string_view grpc_version);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_TENSORS_H_
