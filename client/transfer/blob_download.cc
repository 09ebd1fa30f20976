#include "client/transfer/blob_download.h"

#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/terminal/errors.h"
#include "client/transfer/file_digest.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/sync_stream.h"
#include "proto/wire/crc32c.h"
#include "proto/wire/sha256.h"
#include "salient/v1/blob_service.grpc.pb.h"

namespace salient::client {
namespace {

// Is one download: what was taken survives its streams.
class BlobDownload {
 public:
  BlobDownload(const JobServer& server, CallGroup& calls, const v1::Digest& digest,
               absl::FunctionRef<absl::Status(absl::string_view bytes)> take)
      : server_(server),
        calls_(calls),
        digest_(digest),
        take_(take),
        stub_(v1::BlobService::NewStub(server.channel)) {}

  absl::Status Run() {
    Retry retry(server_.retry, calls_);
    while (offset_ < digest_.size_bytes()) {
      const int64_t before = offset_;
      const absl::Status status = Attempt();
      if (!local_.ok()) return local_;
      if (offset_ > before) retry.Succeeded();
      if (!status.ok() && !retry.WaitAfter(status)) return status;
    }
    if (ToMessage(running_).sha256() == digest_.sha256()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("blob ", digest_.sha256(), " from ", server_.address,
                                            " does not have its sha256"));
  }

 private:
  absl::Status Attempt() {
    v1::ReadBlobRequest request;
    *request.mutable_digest() = digest_;
    request.set_offset_bytes(offset_);
    CallGroup::Call call(calls_);
    const auto stream = stub_->ReadBlob(call.context(), request);
    v1::ReadBlobResponse response;
    absl::Status damaged;
    while (damaged.ok() && local_.ok() && stream->Read(&response)) {
      damaged = Take(response.chunk());
    }
    if (!damaged.ok() || !local_.ok()) call.context()->TryCancel();
    const grpc::Status status = stream->Finish();
    if (!local_.ok()) return local_;
    if (!damaged.ok()) return damaged;
    if (!status.ok()) return FromGrpcStatus(status, server_.address);
    if (offset_ == digest_.size_bytes()) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("the server at ", server_.address, " sent blob ",
                                               digest_.sha256(), " up to byte ", offset_,
                                               " only; expected ", digest_.size_bytes()));
  }

  absl::Status Take(const v1::Chunk& chunk) {
    const int64_t size = static_cast<int64_t>(chunk.data().size());
    if (chunk.offset_bytes() != offset_ || size > digest_.size_bytes() - offset_) {
      return absl::InternalError(
          absl::StrCat("the server at ", server_.address, " sent ", size, " bytes of blob ",
                       digest_.sha256(), " at offset ", chunk.offset_bytes(), "; expected offset ",
                       offset_, " and at most ", digest_.size_bytes() - offset_, " bytes"));
    }
    if (chunk.has_crc32c() && chunk.crc32c() != Crc32c(chunk.data())) {
      return absl::DataLossError(absl::StrCat("blob ", digest_.sha256(),
                                              " was damaged on the way from ", server_.address,
                                              " at byte ", offset_));
    }
    local_ = take_(chunk.data());
    if (!local_.ok()) return absl::OkStatus();
    running_.Update(chunk.data());
    offset_ += size;
    return absl::OkStatus();
  }

  const JobServer& server_;
  CallGroup& calls_;
  const v1::Digest& digest_;
  absl::FunctionRef<absl::Status(absl::string_view bytes)> take_;
  const std::unique_ptr<v1::BlobService::Stub> stub_;
  Sha256 running_;
  int64_t offset_ = 0;
  absl::Status local_;  // It is an error of ours, which no retry lifts.
};

}  // namespace

absl::Status DownloadBlob(const JobServer& server, CallGroup& calls, const v1::Digest& digest,
                          absl::FunctionRef<absl::Status(absl::string_view bytes)> take) {
  return BlobDownload(server, calls, digest, take).Run();
}

}  // namespace salient::client
