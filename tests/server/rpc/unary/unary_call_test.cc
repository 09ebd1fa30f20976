// Checks unary rpcs, and the beginning of WatchJob, as bytes on the wire.
#include "server/rpc/unary/unary_call.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "salient/v1/blob_service.pb.h"
#include "salient/v1/quantization_service.pb.h"
#include "server/config.h"
#include "server/rpc/convert/job_spec.h"
#include "server/rpc/unary/unary_call.h"
#include "server/server.h"
#include "server/store/digest.h"
#include "tests/server/rpc/convert/job_spec_messages.h"

namespace salient {
namespace {

constexpr const char* kMethods[] = {
    "/salient.v1.QuantizationService/GetServerInfo", "/salient.v1.QuantizationService/CreateJob",
    "/salient.v1.QuantizationService/GetJob",        "/salient.v1.QuantizationService/ListJobs",
    "/salient.v1.QuantizationService/CancelJob",     "/salient.v1.QuantizationService/DeleteJob",
    "/salient.v1.QuantizationService/WatchJob",      "/salient.v1.BlobService/FindMissingBlobs",
    "/salient.v1.BlobService/GetBlobStatus"};

class UnaryRpcTest : public ::testing::Test {
 protected:
  struct Answer {
    grpc::Status status;
    std::string response;
  };

  void SetUp() override {
    ServerConfig config;
    config.listen = "127.0.0.1:0";
    config.workers = 1;
    auto server = Server::Start(config);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
  }

  Answer Call(const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    std::promise<grpc::Status> status;
    stub.UnaryCall(&context, method, grpc::StubOptions(), &request, &response,
                   [&status](grpc::Status ended) { status.set_value(std::move(ended)); });
    Answer answer{status.get_future().get(), ""};
    grpc::Slice whole;
    if (answer.status.ok() && response.DumpToSingleSlice(&whole).ok()) {
      answer.response.assign(reinterpret_cast<const char*>(whole.begin()), whole.size());
    }
    return answer;
  }

  static std::string ReasonOf(const grpc::Status& status) {
    google::rpc::Status details;
    details.ParseFromString(status.error_details());
    google::rpc::ErrorInfo info;
    for (const auto& any : details.details()) {
      if (any.UnpackTo(&info)) return info.reason();
    }
    return "";
  }

  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(UnaryRpcTest, BytesThatAreNoProtobufAreTheClientsFault) {
  for (const std::string method : kMethods) {
    for (const char* bytes : {"\xFF\xFF\xFF", "\x0A\x7F"}) {
      const Answer answer = Call(method, bytes);
      EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
      EXPECT_EQ(ReasonOf(answer.status), "MESSAGE_ORDER") << method;
      const std::string name = method.substr(method.rfind('/') + 1);
      EXPECT_NE(answer.status.error_message().find(absl::StrCat(name, "Request")),
                std::string::npos)
          << answer.status.error_message();
    }
  }
}

TEST_F(UnaryRpcTest, ShortCallsTakeShortRequestsOnly) {
  v1::GetJobRequest request;  // It looks on the wire as most of the others: field 1, a text.
  request.set_name(std::string(kMaxShortRequestBytes, 'x'));
  for (const std::string method : kMethods) {
    const Answer answer = Call(method, request.SerializeAsString());
    const bool is_short = method.find("CreateJob") == std::string::npos;
    EXPECT_EQ(ReasonOf(answer.status) == "REQUEST_TOO_LARGE", is_short)
        << method << ": " << answer.status.error_message();
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
  }
  // A request of as many digests as allowed is still a short one.
  v1::FindMissingBlobsRequest blobs;
  for (int i = 0; i < 1000; ++i) {
    v1::Digest& digest = *blobs.add_digests();
    digest.set_sha256(std::string(64, 'a'));
    digest.set_size_bytes(INT64_MAX - i);
  }
  const Answer answer = Call("/salient.v1.BlobService/FindMissingBlobs", blobs.SerializeAsString());
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  v1::FindMissingBlobsResponse missing;
  ASSERT_TRUE(missing.ParseFromString(answer.response));
  EXPECT_EQ(missing.missing_size(), 1000);
}

// The answer has the spec, and what is missing of it.
TEST_F(UnaryRpcTest, TheLargestJobIsAnswered) {
  v1::CreateJobRequest request;
  request.set_validate_only(true);
  v1::EvaluateTask& task = *request.mutable_spec()->mutable_evaluate();
  *task.mutable_tokens()->mutable_tokens() = testing::SomeDigest();
  int files = 0;
  for (v1::ModelSource* model :
       {request.mutable_spec()->mutable_model(), task.mutable_reference()}) {
    const auto add = [&](const std::string& name) -> v1::ModelFile& {
      v1::ModelFile& file = *model->mutable_manifest()->add_files();
      file.set_name(name);
      const Digest digest = DigestOf(absl::StrCat(++files));
      file.mutable_digest()->set_sha256(HexSha256(digest));
      file.mutable_digest()->set_size_bytes(1000 + files);
      return file;
    };
    const std::string config =
        R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,)"
        R"( "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,)"
        R"( "vocab_size": 40, "rms_norm_eps": 1e-05, "hidden_act": "silu"})";
    v1::ModelFile& file = add("config.json");
    file.set_inline_content(config);
    file.mutable_digest()->set_sha256(HexSha256(DigestOf(config)));
    file.mutable_digest()->set_size_bytes(static_cast<int64_t>(config.size()));
    add("model.safetensors");
    while (model->manifest().files_size() < kMaxModelFiles) {
      add(absl::StrCat("carried", files, ".json"));
    }
  }
  v1::ModelFile& last = *request.mutable_spec()->mutable_model()->mutable_manifest()->mutable_files(
      kMaxModelFiles - 1);
  std::string content(kMaxJobRequestBytes - request.ByteSizeLong() - 40, ' ');
  last.mutable_digest()->set_sha256(HexSha256(DigestOf(content)));
  last.mutable_digest()->set_size_bytes(static_cast<int64_t>(content.size()));
  last.set_inline_content(std::move(content));
  ASSERT_LE(request.ByteSizeLong(), kMaxJobRequestBytes);
  const std::string method = "/salient.v1.QuantizationService/CreateJob";
  const Answer answer = Call(method, request.SerializeAsString());
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  v1::CreateJobResponse response;
  ASSERT_TRUE(response.ParseFromString(answer.response));
  EXPECT_EQ(response.job().missing_size(), 2 * kMaxModelFiles) << "the tokens, and one config";
  const Answer beyond = Call(method, std::string(kMaxJobRequestBytes + 1, '\0'));
  EXPECT_EQ(ReasonOf(beyond.status), "REQUEST_TOO_LARGE");
}

TEST_F(UnaryRpcTest, AnswersAreMessages) {
  const Answer info = Call("/salient.v1.QuantizationService/GetServerInfo", "");
  v1::GetServerInfoResponse response;
  ASSERT_TRUE(info.status.ok() && response.ParseFromString(info.response));
  EXPECT_EQ(response.worker_count(), 1);
  v1::GetJobRequest request;
  request.set_name("jobs/none");
  for (const char* name : {"GetJob", "CancelJob", "DeleteJob", "WatchJob"}) {
    const Answer absent =
        Call(absl::StrCat("/salient.v1.QuantizationService/", name), request.SerializeAsString());
    EXPECT_EQ(absent.status.error_code(), grpc::StatusCode::NOT_FOUND) << name;
    EXPECT_EQ(ReasonOf(absent.status), "UNKNOWN_JOB") << name;
  }
}

}  // namespace
}  // namespace salient
