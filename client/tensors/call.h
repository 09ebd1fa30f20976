// One QuantizeTensors call from files to a file.
#ifndef SALIENT_CLIENT_TENSORS_CALL_H_
#define SALIENT_CLIENT_TENSORS_CALL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/tensors/packed_output.h"
#include "client/tensors/progress.h"
#include "client/tensors/request_writer.h"
#include "client/terminal/interrupt.h"
#include "grpcpp/channel.h"
#include "salient/v1/report.pb.h"

namespace salient::client {

// Says where to send it and how long it may take.
struct TensorsServer {
  std::shared_ptr<grpc::Channel> channel;
  std::string address;                                // For errors.
  absl::Duration timeout = absl::InfiniteDuration();  // Of the whole call.
};

// Sends `input` on a thread of its own and reads results on this one, because a server may hold
// back a writer that does not read. Returns the report of every group, in order, with their tensors
// in `output`, which is not committed. Whoever fails first ends the call.
//
// Its errors are those of WriteRequests, ResultReader and FromGrpcStatus, and CANCELLED after
// Ctrl-C.
absl::StatusOr<std::vector<v1::GroupReport>> CallQuantizeTensors(const TensorsServer& server,
                                                                 const TensorsInput& input,
                                                                 PackedOutput& output,
                                                                 Progress& progress,
                                                                 Interrupt& interrupt);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_CALL_H_
