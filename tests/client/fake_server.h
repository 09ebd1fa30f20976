// Is a server that does what a test says, for the tests of the client.
#ifndef SALIENT_TESTS_CLIENT_FAKE_SERVER_H_
#define SALIENT_TESTS_CLIENT_FAKE_SERVER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "grpcpp/server.h"
#include "grpcpp/server_context.h"
#include "salient/v1/quantization_service.grpc.pb.h"

namespace salient::client {

using FakeStream =
    grpc::ServerReaderWriter<v1::QuantizeTensorsResponse, v1::QuantizeTensorsRequest>;
using FakeHandler = std::function<grpc::Status(grpc::ServerContext&, FakeStream&)>;

// Serves QuantizeTensors by `handler` on a free port of the loopback interface while it lives.
class FakeServer {
 public:
  explicit FakeServer(FakeHandler handler);
  ~FakeServer();

  const std::string& address() const { return address_; }

 private:
  class Service;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

// One group as it arrived, put together again with no help of the client's code.
struct ReceivedGroup {
  v1::GroupHeader header;
  std::map<int32_t, std::string> weights;      // By linear_index.
  std::map<int64_t, std::string> activations;  // By calibration_row.
};

// Reads up to and including the next end_group. Returns false at the end of the stream. Adds a test
// failure for a chunk or batch that is out of place or lacks its checksum.
bool ReadGroup(FakeStream& stream, ReceivedGroup& group);

// The result that "quantizes" a Linear called x to a tensor "x.qweight" U8 [bytes] of the weight's
// own bytes, and says s_j = j.
v1::GroupResult ResultOf(const ReceivedGroup& group);

// Sends it all, each tensor in chunks of `chunk_bytes`. False if the client does not listen.
bool SendResult(FakeStream& stream, const ReceivedGroup& group, size_t chunk_bytes);

}  // namespace salient::client

#endif  // SALIENT_TESTS_CLIENT_FAKE_SERVER_H_
