// Uploads whose first megabytes an earlier process received, so that they are hashed at the end.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "salient/v1/blob_service.grpc.pb.h"
#include "server/observe/metrics.h"
#include "server/rpc/streams/blob_transfer.h"
#include "server/rpc/streams/write_blob_reactor.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/rpc/unary/rpc_lanes.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "tests/server/observe/fake_job_table.h"
#include "tests/server/store/blob_store_fixture.h"

namespace salient {
namespace {

// Serves uploads, and shows the context of the last one.
class UploadService final
    : public v1::BlobService::WithRawCallbackMethod_WriteBlob<v1::BlobService::Service> {
 public:
  UploadService(BlobTransfer& transfer, Metrics::Rpc& rpc) : transfer_(transfer), rpc_(rpc) {}

  grpc::ServerReadReactor<grpc::ByteBuffer>* WriteBlob(grpc::CallbackServerContext* context,
                                                       grpc::ByteBuffer* response) override {
    last_context = context;
    return WriteBlobReactor::Start(transfer_, rpc_, context, response);
  }

  std::atomic<grpc::CallbackServerContext*> last_context = nullptr;

 private:
  BlobTransfer& transfer_;
  Metrics::Rpc& rpc_;
};

class ResumedUploadTest : public testing::BlobStoreFixture {
 protected:
  // One client's stream.
  struct Stream {
    grpc::ClientContext context;
    v1::WriteBlobResponse response;
    std::unique_ptr<grpc::ClientWriter<v1::WriteBlobRequest>> writer;
  };

  ResumedUploadTest() {
    const auto earlier = Open();
    auto upload = earlier->BeginUpload(digest_);
    EXPECT_EQ(upload->Append(0, content_), absl::OkStatus());
  }

  void SetUp() override {
    store_ = Open();
    ASSERT_GT(store_->Status(digest_).committed_bytes, digest_.size_bytes - 2 * kInterval);
    transfer_ = std::make_unique<BlobTransfer>(
        BlobTransfer{*store_, pool_, lanes_, jobs_, metrics_, gate_});
    service_ = std::make_unique<UploadService>(
        *transfer_, metrics_.AddRpc({v1::BlobService::service_full_name(), "WriteBlob",
                                     RpcType::kClientStream}));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::BlobService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }

  void TearDown() override {
    if (!go_->try_wait()) go_->count_down();
  }

  // Lets the lane for hashing do nothing until go_ counts down.
  void HoldHashing() {
    const auto holds = std::make_shared<std::latch>(1);
    ASSERT_TRUE(lanes_.hashing
                    .Submit([holds, go = go_] {
                      holds->count_down();
                      go->wait();
                    })
                    .ok());
    holds->wait();
  }

  // Sends what is missing of `content`, or of other bytes under its digest, and that it is all.
  std::unique_ptr<Stream> SendRest(const std::string& content, const std::string& bytes) {
    auto stream = std::make_unique<Stream>();
    stream->writer = stub_->WriteBlob(&stream->context, &stream->response);
    const Digest digest = DigestOf(content);
    const int64_t offset = store_->Status(digest).committed_bytes;
    v1::WriteBlobRequest begin, chunk, finish;
    begin.mutable_digest()->set_sha256(HexSha256(digest));
    begin.mutable_digest()->set_size_bytes(digest.size_bytes);
    chunk.mutable_chunk()->set_offset_bytes(offset);
    chunk.mutable_chunk()->set_data(bytes.substr(static_cast<size_t>(offset)));
    finish.mutable_finish();
    for (const auto* message : {&begin, &chunk, &finish}) {
      EXPECT_TRUE(stream->writer->Write(*message));
    }
    return stream;
  }
  std::unique_ptr<Stream> SendRest(const std::string& content) {
    return SendRest(content, content);
  }

  static bool Comes(const std::function<bool()>& event) {
    for (int looks = 0; looks < 60'000 && !event(); ++looks) absl::SleepFor(absl::Milliseconds(1));
    return event();
  }

  const std::string content_ = testing::RandomBytes(1, (size_t{3} << 20) + 17);
  const Digest digest_ = DigestOf(content_);
  const std::shared_ptr<std::latch> go_ = std::make_shared<std::latch>(1);
  std::unique_ptr<BlobStore> store_;
  WorkerPool pool_{1};
  RpcLanes lanes_;
  FakeJobTable jobs_;
  Metrics metrics_{"test"};
  DrainGate gate_;
  std::unique_ptr<BlobTransfer> transfer_;
  std::unique_ptr<UploadService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::BlobService::Stub> stub_;
};

TEST_F(ResumedUploadTest, OthersFinishWhileOneIsHashed) {
  HoldHashing();
  const auto slow = SendRest(content_);
  ASSERT_TRUE(Comes([this] { return lanes_.hashing.waiting() == 1; }));
  const auto other = SendRest("another blob");
  EXPECT_TRUE(other->writer->Finish().ok());
  EXPECT_TRUE(other->response.complete());
  EXPECT_FALSE(store_->Status(digest_).complete) << "nothing else hashes it";
  go_->count_down();
  const grpc::Status status = slow->writer->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(slow->response.complete());
  EXPECT_EQ(slow->response.committed_bytes(), digest_.size_bytes);
  EXPECT_EQ(ReadAll(*store_, digest_), content_);
}

TEST_F(ResumedUploadTest, NothingIsHashedForAClientThatIsGone) {
  HoldHashing();
  const auto gone = SendRest(content_);
  ASSERT_TRUE(Comes([this] { return lanes_.hashing.waiting() == 1; }));
  gone->context.TryCancel();
  EXPECT_EQ(gone->writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(Comes([this] { return service_->last_context.load()->IsCancelled(); }));
  go_->count_down();
  // Nobody writes it any more, so the next one need not wait.
  ASSERT_TRUE(Comes([this] {
    return store_->BeginUpload(digest_, BlobStore::Maker::kClient, digest_.size_bytes).ok();
  }));
  EXPECT_FALSE(store_->Status(digest_).complete);
  const auto next = SendRest(content_);
  EXPECT_TRUE(next->writer->Finish().ok());
  EXPECT_TRUE(next->response.complete());
}

TEST_F(ResumedUploadTest, WhatIsNotTheBlobIsRefusedAfterHashing) {
  std::string wrong = content_;
  wrong.back() ^= 1;
  const auto stream = SendRest(content_, wrong);
  const grpc::Status status = stream->writer->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(status.error_message().find("its bytes have sha256"), std::string::npos)
      << status.error_message();
  EXPECT_FALSE(store_->Status(digest_).complete);
}

}  // namespace
}  // namespace salient
