#include "tests/client/fake_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <utility>

#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "proto/wire/crc32c.h"

namespace salient::client {

class FakeServer::Service final : public v1::QuantizationService::Service {
 public:
  explicit Service(FakeHandler handler) : handler_(std::move(handler)) {}

  grpc::Status QuantizeTensors(grpc::ServerContext* context, FakeStream* stream) override {
    return handler_(*context, *stream);
  }

  grpc::Status GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                             v1::GetServerInfoResponse* response) override {
    response->set_version("fake");
    return grpc::Status::OK;
  }

 private:
  FakeHandler handler_;
};

FakeServer::FakeServer(FakeHandler handler)
    : service_(std::make_unique<Service>(std::move(handler))) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  address_ = "127.0.0.1:" + std::to_string(port);
}

FakeServer::~FakeServer() { server_->Shutdown(std::chrono::system_clock::now()); }

bool ReadGroup(FakeStream& stream, ReceivedGroup& group) {
  group = {};
  v1::QuantizeTensorsRequest request;
  while (stream.Read(&request)) {
    if (request.has_group()) {
      EXPECT_TRUE(group.header.name().empty()) << "a group inside a group";
      group.header = request.group();
    } else if (request.has_weight()) {
      const v1::Chunk& chunk = request.weight().chunk();
      std::string& bytes = group.weights[request.weight().linear_index()];
      EXPECT_EQ(chunk.offset_bytes(), static_cast<int64_t>(bytes.size()));
      EXPECT_EQ(chunk.crc32c(), Crc32c(chunk.data()));
      bytes += chunk.data();
    } else if (request.has_activations()) {
      const v1::ActivationBatch& batch = request.activations();
      std::string& bytes = group.activations[batch.calibration_row()];
      const int64_t element = group.header.activation_dtype() == v1::DATA_TYPE_F32 ? 4 : 2;
      EXPECT_EQ(batch.first_position() * group.header.in_features() * element,
                static_cast<int64_t>(bytes.size()));
      EXPECT_EQ(batch.crc32c(), Crc32c(batch.data()));
      EXPECT_FALSE(batch.data().empty());
      bytes += batch.data();
    } else if (request.has_end_group()) {
      return true;
    }
  }
  return false;
}

v1::GroupResult ResultOf(const ReceivedGroup& group) {
  v1::GroupResult result;
  result.mutable_report()->set_name(group.header.name());
  for (int64_t j = 0; j < group.header.in_features(); ++j) {
    result.add_scales(static_cast<float>(j));
  }
  for (int32_t i = 0; i < group.header.linears_size(); ++i) {
    v1::TensorHeader& tensor = *result.add_tensors();
    tensor.set_name(group.header.linears(i).name() + ".qweight");
    tensor.set_dtype(v1::DATA_TYPE_U8);
    tensor.add_shape(static_cast<int64_t>(group.weights.at(i).size()));
    result.mutable_report()->add_linears()->set_name(group.header.linears(i).name());
  }
  return result;
}

bool SendResult(FakeStream& stream, const ReceivedGroup& group, size_t chunk_bytes) {
  v1::QuantizeTensorsResponse response;
  *response.mutable_group() = ResultOf(group);
  if (!stream.Write(response)) return false;
  for (const auto& [index, bytes] : group.weights) {
    for (size_t offset = 0; offset < bytes.size(); offset += chunk_bytes) {
      v1::ResultChunk& chunk = *response.mutable_chunk();
      chunk.set_tensor_index(index);
      chunk.mutable_chunk()->set_offset_bytes(static_cast<int64_t>(offset));
      chunk.mutable_chunk()->set_data(bytes.substr(offset, chunk_bytes));
      chunk.mutable_chunk()->set_crc32c(Crc32c(chunk.chunk().data()));
      if (!stream.Write(response)) return false;
    }
  }
  return true;
}

}  // namespace salient::client
