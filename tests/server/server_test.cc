#include "server/server.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "salient/v1/quantization_service.grpc.pb.h"

namespace salient {
namespace {

ServerConfig TestConfig() {
  ServerConfig config;
  config.listen = "127.0.0.1:0";
  config.workers = 2;
  config.memory_bytes = int64_t{1} << 30;
  config.call_memory_bytes = int64_t{256} << 20;
  return config;
}

std::shared_ptr<grpc::Channel> ChannelTo(const Server& server) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", server.port()),
                                   grpc::InsecureChannelCredentials(), arguments);
}

std::string ReasonOf(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  google::rpc::ErrorInfo info;
  for (const auto& any : details.details()) {
    if (any.UnpackTo(&info)) return info.reason();
  }
  return "";
}

v1::QuantizeTensorsRequest Options() {
  v1::QuantizeTensorsRequest request;
  v1::QuantizeTensorsOptions& options = *request.mutable_options();
  options.mutable_format()->set_group_size(-1);
  options.mutable_method()->set_scale(v1::SCALE_NONE);
  options.mutable_method()->set_range(v1::RANGE_MIN_MAX);
  options.mutable_method()->set_rounding(v1::ROUNDING_NEAREST);
  return request;
}

// Makes a group of one Linear [out_features, 16] of ones, one token.
std::vector<v1::QuantizeTensorsRequest> Group(const std::string& name, int64_t out_features) {
  std::vector<v1::QuantizeTensorsRequest> messages(1);
  v1::GroupHeader& header = *messages[0].mutable_group();
  header.set_name(name);
  header.set_in_features(16);
  header.set_activation_dtype(v1::DATA_TYPE_F32);
  v1::LinearHeader& linear = *header.add_linears();
  linear.set_name(absl::StrCat(name, ".linear"));
  linear.set_dtype(v1::DATA_TYPE_F16);
  linear.set_out_features(out_features);
  std::string weight("\x00\x3C", 2);  // It is 1.0.
  while (weight.size() < static_cast<size_t>(out_features) * 32) weight += weight;
  weight.resize(static_cast<size_t>(out_features) * 32);
  for (size_t offset = 0; offset < weight.size(); offset += 1 << 20) {
    v1::Chunk& chunk = *messages.emplace_back().mutable_weight()->mutable_chunk();
    chunk.set_offset_bytes(static_cast<int64_t>(offset));
    chunk.set_data(weight.substr(offset, 1 << 20));
  }
  messages.emplace_back().mutable_activations()->set_data(std::string(64, '\x3F'));
  messages.emplace_back().mutable_end_group();
  return messages;
}

TEST(ServerTest, ServesACallAndHealth) {
  auto server = Server::Start(TestConfig());
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel = ChannelTo(**server);
  auto stub = v1::QuantizationService::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->QuantizeTensors(&context);
  ASSERT_TRUE(stream->Write(Options()));
  for (const auto& message : Group("g", 8)) ASSERT_TRUE(stream->Write(message));
  stream->WritesDone();
  v1::QuantizeTensorsResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.group().report().name(), "g");
  EXPECT_EQ(response.group().tensors_size(), 3);
  int chunks = 0;
  while (stream->Read(&response)) chunks += response.has_chunk() ? 1 : 0;
  EXPECT_EQ(chunks, 3);
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();

  auto health = grpc::health::v1::Health::NewStub(channel);
  for (const char* name : {"", "readiness", "salient.v1.QuantizationService"}) {
    grpc::ClientContext check;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    grpc::health::v1::HealthCheckResponse answer;
    EXPECT_TRUE(health->Check(&check, request, &answer).ok()) << name;
    EXPECT_EQ(answer.status(), grpc::health::v1::HealthCheckResponse::SERVING) << name;
  }
}

// One thread that writes all before it reads: without the server's help it would never read.
TEST(ServerTest, AClientThatWritesAllBeforeItReadsGetsItsReason) {
  ServerConfig config = TestConfig();
  config.call_memory_bytes = int64_t{32} << 20;
  config.not_reading_timeout = absl::Milliseconds(300);
  auto server = Server::Start(config);
  ASSERT_TRUE(server.ok()) << server.status();
  auto stub = v1::QuantizationService::NewStub(ChannelTo(**server));
  grpc::ClientContext context;
  auto stream = stub->QuantizeTensors(&context);
  ASSERT_TRUE(stream->Write(Options()));
  // 80 groups of 2 MiB make 45 MiB of results for a budget of 32, windows aside.
  bool written = true;
  for (int i = 0; i < 80 && written; ++i) {
    for (const auto& message : Group(absl::StrCat("g", i), 1 << 16)) {
      written = written && stream->Write(message);
    }
  }
  stream->WritesDone();
  v1::QuantizeTensorsResponse response;
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED) << status.error_message();
  EXPECT_EQ(ReasonOf(status), "CLIENT_NOT_READING");
}

TEST(ServerTest, ShutdownEndsOpenCallsAndRefusesNewOnes) {
  auto server = Server::Start(TestConfig());
  ASSERT_TRUE(server.ok()) << server.status();
  auto stub = v1::QuantizationService::NewStub(ChannelTo(**server));
  grpc::ClientContext context;
  auto stream = stub->QuantizeTensors(&context);
  ASSERT_TRUE(stream->Write(Options()));
  grpc::ClientContext info_context;
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(stub->GetServerInfo(&info_context, {}, &info).ok());
  (*server)->Shutdown(absl::Milliseconds(10));
  v1::QuantizeTensorsResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  (*server)->Shutdown(absl::ZeroDuration());  // A second one changes nothing.
  grpc::ClientContext late;
  EXPECT_EQ(stub->GetServerInfo(&late, {}, &info).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(ServerTest, TwoServersOfOneProcessAreApart) {
  ServerConfig config = TestConfig();
  config.metrics_listen = "127.0.0.1:0";
  auto first = Server::Start(config);
  auto second = Server::Start(config);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE((*first)->port(), (*second)->port());
  EXPECT_NE((*first)->metrics_port(), (*second)->metrics_port());
  first->reset();
  auto stub = v1::QuantizationService::NewStub(ChannelTo(**second));
  grpc::ClientContext context;
  v1::GetServerInfoResponse info;
  EXPECT_TRUE(stub->GetServerInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.worker_count(), 2);
}

// Returns the code of an rpc called with an empty message and no stub.
grpc::StatusCode CodeOf(const Server& server, const std::string& method) {
  grpc::GenericStub stub(ChannelTo(server));
  grpc::ClientContext context;
  const grpc::ByteBuffer request(nullptr, 0);
  grpc::ByteBuffer response;
  std::promise<grpc::StatusCode> code;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &request, &response,
                 [&code](const grpc::Status& status) { code.set_value(status.error_code()); });
  return code.get_future().get();
}

TEST(ServerTest, ReflectionAndHealthAreThereUnlessTurnedOff) {
  constexpr char kReflection[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  constexpr char kHealth[] = "/grpc.health.v1.Health/Check";
  ServerConfig config = TestConfig();
  config.reflection = false;
  config.health = false;
  auto off = Server::Start(config);
  auto on = Server::Start(TestConfig());
  ASSERT_TRUE(off.ok() && on.ok());
  EXPECT_EQ(CodeOf(**off, kReflection), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(CodeOf(**off, kHealth), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(CodeOf(**on, kReflection), grpc::StatusCode::OK);
  EXPECT_EQ(CodeOf(**on, kHealth), grpc::StatusCode::OK);
}

TEST(ServerTest, AnAddressInUseIsAnErrorThatNamesIt) {
  auto first = Server::Start(TestConfig());
  ASSERT_TRUE(first.ok());
  ServerConfig config = TestConfig();
  config.listen = absl::StrCat("127.0.0.1:", (*first)->port());
  const absl::Status status = Server::Start(config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find(config.listen), std::string::npos) << status;
}

}  // namespace
}  // namespace salient
