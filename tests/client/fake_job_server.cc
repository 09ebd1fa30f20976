#include "tests/client/fake_job_server.h"

#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "client/transfer/channel.h"
#include "client/transfer/file_digest.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_context.h"
#include "gtest/gtest.h"
#include "proto/wire/crc32c.h"
#include "salient/v1/blob_service.grpc.pb.h"
#include "salient/v1/quantization_service.grpc.pb.h"

namespace salient::client {
namespace {

using std::chrono::milliseconds;

constexpr size_t kReadChunkBytes = 1000;

}  // namespace

class FakeJobServer::State final : public v1::BlobService::Service,
                                   public v1::QuantizationService::Service {
 public:
  State() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(static_cast<v1::BlobService::Service*>(this));
    builder.RegisterService(static_cast<v1::QuantizationService::Service*>(this));
    server = builder.BuildAndStart();
    address = "127.0.0.1:" + std::to_string(port);
  }

  grpc::Status FindMissingBlobs(grpc::ServerContext*, const v1::FindMissingBlobsRequest* request,
                                v1::FindMissingBlobsResponse* response) override {
    const std::lock_guard<std::mutex> lock(mutex);
    for (const v1::Digest& digest : request->digests()) {
      if (blobs.count(digest.sha256()) == 0) *response->add_missing() = digest;
    }
    return grpc::Status::OK;
  }

  grpc::Status GetBlobStatus(grpc::ServerContext*, const v1::GetBlobStatusRequest* request,
                             v1::GetBlobStatusResponse* response) override {
    const std::lock_guard<std::mutex> lock(mutex);
    const std::string& sha256 = request->digest().sha256();
    response->set_complete(blobs.count(sha256) > 0);
    response->set_committed_bytes(response->complete()
                                      ? request->digest().size_bytes()
                                      : static_cast<int64_t>(partial[sha256].size()));
    return grpc::Status::OK;
  }

  grpc::Status WriteBlob(grpc::ServerContext*, grpc::ServerReader<v1::WriteBlobRequest>* reader,
                         v1::WriteBlobResponse* response) override {
    std::optional<Break> fault;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!upload_breaks.empty()) {
        fault = upload_breaks.front();
        upload_breaks.pop_front();
      }
    }
    v1::WriteBlobRequest message;
    if (!reader->Read(&message) || !message.has_digest()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "no digest"};
    }
    const v1::Digest digest = message.digest();
    for (int chunks = 0;; ++chunks) {
      if (fault.has_value() && chunks == fault->after_chunks) return fault->status;
      // Closing the stream alone commits nothing.
      if (!reader->Read(&message)) return {grpc::StatusCode::UNAVAILABLE, "no finish"};
      const std::lock_guard<std::mutex> lock(mutex);
      std::string& bytes = partial[digest.sha256()];
      if (message.has_finish()) break;
      const v1::Chunk& chunk = message.chunk();
      received_bytes += static_cast<int64_t>(chunk.data().size());
      // It is an upload of its own.
      if (chunks == 0 && chunk.offset_bytes() == 0) bytes.clear();
      if (chunk.offset_bytes() != static_cast<int64_t>(bytes.size())) {
        return {grpc::StatusCode::OUT_OF_RANGE, "not at committed_bytes"};
      }
      EXPECT_TRUE(chunk.has_crc32c());
      EXPECT_EQ(chunk.crc32c(), Crc32c(chunk.data()));
      EXPECT_LE(chunk.data().size(), size_t{1} << 20);
      bytes += chunk.data();
    }
    const std::lock_guard<std::mutex> lock(mutex);
    std::string bytes = std::exchange(partial[digest.sha256()], "");
    if (DigestOfBytes(bytes).sha256() != digest.sha256()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "not its sha256"};
    }
    response->set_committed_bytes(static_cast<int64_t>(bytes.size()));
    response->set_complete(true);
    blobs[digest.sha256()] = std::move(bytes);
    uploaded.push_back(digest.sha256());
    return grpc::Status::OK;
  }

  grpc::Status ReadBlob(grpc::ServerContext*, const v1::ReadBlobRequest* request,
                        grpc::ServerWriter<v1::ReadBlobResponse>* writer) override {
    std::optional<Break> fault;
    std::function<void(v1::Chunk&)> spoil;
    std::string bytes;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!download_breaks.empty()) {
        fault = download_breaks.front();
        download_breaks.pop_front();
      }
      if (spoiled_downloads > 0) {
        --spoiled_downloads;
        spoil = spoil_download;
      }
      const auto found = blobs.find(request->digest().sha256());
      if (found == blobs.end()) return {grpc::StatusCode::NOT_FOUND, "no such blob"};
      bytes = found->second;
    }
    int chunks = 0;
    for (size_t offset = static_cast<size_t>(request->offset_bytes()); offset < bytes.size();
         offset += kReadChunkBytes, ++chunks) {
      if (fault.has_value() && chunks == fault->after_chunks) return fault->status;
      v1::ReadBlobResponse response;
      v1::Chunk& chunk = *response.mutable_chunk();
      chunk.set_offset_bytes(static_cast<int64_t>(offset));
      chunk.set_data(bytes.substr(offset, kReadChunkBytes));
      chunk.set_crc32c(Crc32c(chunk.data()));
      if (spoil) spoil(chunk);
      if (!writer->Write(response)) break;
    }
    return grpc::Status::OK;
  }

  grpc::Status CreateJob(grpc::ServerContext*, const v1::CreateJobRequest* asked,
                         v1::CreateJobResponse* response) override {
    const std::lock_guard<std::mutex> lock(mutex);
    created = *asked;
    if (refusal.has_value()) return *std::exchange(refusal, std::nullopt);
    response->mutable_job()->set_name("jobs/" + asked->job_id());
    response->mutable_job()->set_state(v1::JOB_STATE_QUEUED);
    response->mutable_job()->mutable_estimate()->set_seconds(7);
    if (asked->validate_only()) response->add_warnings("mind the gap");
    return grpc::Status::OK;
  }

  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* asked,
                      v1::GetJobResponse* response) override {
    const std::lock_guard<std::mutex> lock(mutex);
    *response->mutable_job() = script.ended;
    response->mutable_job()->set_name(asked->name());
    if (cancelled) {
      response->mutable_job()->set_state(v1::JOB_STATE_CANCELLED);
    } else if (!ended) {
      response->mutable_job()->set_state(v1::JOB_STATE_RUNNING);
    }
    return grpc::Status::OK;
  }

  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest* asked,
                         v1::CancelJobResponse* response) override {
    const std::lock_guard<std::mutex> lock(mutex);
    if (forgotten) return {grpc::StatusCode::NOT_FOUND, "no such job"};
    ended |= script.ends_before_that;
    cancelled = !ended;
    response->mutable_job()->set_name(asked->name());
    // The answer may come before the job has ended.
    response->mutable_job()->set_state(v1::JOB_STATE_RUNNING);
    return grpc::Status::OK;
  }

  grpc::Status WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest* asked,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    Script play;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (forgotten) return {grpc::StatusCode::NOT_FOUND, "no such job"};
      ++watches;
      play = script;
    }
    for (int64_t i = asked->after_revision(); i < static_cast<int64_t>(play.events.size()); ++i) {
      play.before_event(static_cast<int>(i));
      v1::WatchJobResponse response;
      *response.mutable_event() = play.events[static_cast<size_t>(i)];
      response.mutable_event()->set_revision(i + 1);
      writer->Write(response);
      response.mutable_event()->Clear();
      response.mutable_event()->mutable_heartbeat();
      writer->Write(response);
      const std::lock_guard<std::mutex> lock(mutex);
      if (watch_breaks.erase(static_cast<int>(i + 1)) > 0) {
        return {grpc::StatusCode::UNAVAILABLE, "gone"};
      }
    }
    play.before_event(static_cast<int>(play.events.size()));
    for (;;) {
      {
        const std::lock_guard<std::mutex> lock(mutex);
        if (cancelled) return grpc::Status::OK;
        if (!play.never_ends) {
          ended = true;
          return grpc::Status::OK;
        }
      }
      if (context->IsCancelled()) return grpc::Status::CANCELLED;
      std::this_thread::sleep_for(milliseconds(2));
    }
  }

  std::unique_ptr<grpc::Server> server;
  std::string address;
  std::mutex mutex;  // It guards all that follows.
  std::map<std::string, std::string> blobs;
  std::map<std::string, std::string> partial;
  std::vector<std::string> uploaded;
  int64_t received_bytes = 0;
  std::deque<Break> upload_breaks;
  std::deque<Break> download_breaks;
  int spoiled_downloads = 0;
  std::function<void(v1::Chunk&)> spoil_download;
  Script script;
  std::set<int> watch_breaks;
  std::optional<grpc::Status> refusal;
  v1::CreateJobRequest created;
  bool cancelled = false;
  bool ended = false;
  bool forgotten = false;
  int watches = 0;
};

FakeJobServer::FakeJobServer() : state_(std::make_unique<State>()) {}
FakeJobServer::~FakeJobServer() {
  state_->server->Shutdown(std::chrono::system_clock::now());
  state_->server->Wait();
}

JobServer FakeJobServer::Connect() const {
  return {OpenChannel(state_->address),
          state_->address,
          {absl::Milliseconds(2), absl::Milliseconds(50), absl::Seconds(60)}};
}

void FakeJobServer::Commit(const v1::Digest& digest, const std::string& bytes) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->partial[digest.sha256()] = bytes;
}

v1::Digest FakeJobServer::Hold(const std::string& content) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  v1::Digest digest = DigestOfBytes(content);
  state_->blobs[digest.sha256()] = content;
  return digest;
}

bool FakeJobServer::Has(const v1::Digest& digest) const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->blobs.count(digest.sha256()) > 0;
}

bool FakeJobServer::WaitFor(const v1::Digest& digest) const {
  for (int i = 0; i < 12000 && !Has(digest); ++i) std::this_thread::sleep_for(milliseconds(5));
  return Has(digest);
}

std::vector<std::string> FakeJobServer::Uploaded() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->uploaded;
}

int64_t FakeJobServer::ReceivedBytes() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->received_bytes;
}

void FakeJobServer::BreakNextUpload(Break fault) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->upload_breaks.push_back(std::move(fault));
}

void FakeJobServer::BreakNextDownload(Break fault) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->download_breaks.push_back(std::move(fault));
}

void FakeJobServer::SpoilDownloads(int downloads, std::function<void(v1::Chunk& chunk)> spoil) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->spoiled_downloads = downloads;
  state_->spoil_download = std::move(spoil);
}

void FakeJobServer::Play(Script script) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->script = std::move(script);
}

void FakeJobServer::BreakWatchAfter(std::vector<int> events) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->watch_breaks = {events.begin(), events.end()};
}

void FakeJobServer::ForgetJob() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->forgotten = true;
}

void FakeJobServer::RefuseNextJob(grpc::Status status) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->refusal = std::move(status);
}

v1::CreateJobRequest FakeJobServer::Request() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->created;
}

bool FakeJobServer::Cancelled() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->cancelled;
}

int FakeJobServer::Watches() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->watches;
}

}  // namespace salient::client
