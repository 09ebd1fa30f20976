#include "client/transfer/blob_upload.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/terminal/errors.h"
#include "client/transfer/channel.h"
#include "client/transfer/file_digest.h"
#include "core/file/durable_write.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/sync_stream.h"
#include "proto/wire/chunk.h"
#include "proto/wire/crc32c.h"
#include "salient/v1/blob_service.grpc.pb.h"

namespace salient::client {
namespace {

constexpr size_t kDigestsAtOnce = 1000;
constexpr int kWaitsForOthers = 5;
constexpr int kBeginningsAnew = 3;

// Gives bytes by position, from a file or from memory.
class BlobBytes {
 public:
  static absl::StatusOr<BlobBytes> Open(const LocalBlob& blob) {
    BlobBytes bytes(blob);
    if (blob.content.has_value()) return bytes;
    bytes.fd_ = open(blob.source.c_str(), O_RDONLY | O_CLOEXEC);
    if (bytes.fd_ >= 0) return bytes;
    return FileError(errno, blob.source, "open");
  }
  BlobBytes(BlobBytes&& other) noexcept : blob_(other.blob_), fd_(std::exchange(other.fd_, -1)) {}
  BlobBytes& operator=(BlobBytes&&) = delete;
  ~BlobBytes() {
    if (fd_ >= 0) close(fd_);
  }

  absl::Status Read(const ByteRange& range, std::string& bytes) const {
    bytes.resize(static_cast<size_t>(range.size));
    if (blob_->content.has_value()) {
      blob_->content->copy(bytes.data(), bytes.size(), static_cast<size_t>(range.offset));
      return absl::OkStatus();
    }
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t size = pread(fd_, bytes.data() + done, bytes.size() - done,
                                 static_cast<off_t>(range.offset) + static_cast<off_t>(done));
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) {
        return absl::InternalError(
            absl::StrCat(blob_->source, ": cannot be read: ", std::strerror(errno)));
      }
      if (size == 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(blob_->source, " ends at byte ", range.offset + static_cast<int64_t>(done),
                         "; expected ", blob_->digest.size_bytes(), ", as when it was hashed"));
      }
      done += static_cast<size_t>(size);
    }
    return absl::OkStatus();
  }

 private:
  explicit BlobBytes(const LocalBlob& blob) : blob_(&blob) {}
  const LocalBlob* blob_;
  int fd_ = -1;
};

// Is one upload: what is committed survives its streams.
class BlobUpload {
 public:
  BlobUpload(const JobServer& server, CallGroup& calls, const LocalBlob& blob,
             const BlobBytes& bytes, BytesCommitted committed)
      : server_(server),
        calls_(calls),
        blob_(blob),
        bytes_(bytes),
        committed_(committed),
        stub_(v1::BlobService::NewStub(server.channel)),
        retry_(server.retry, calls) {}

  absl::Status Run() {
    for (;;) {
      const absl::Status status = Attempt();
      if (status.ok()) return status;
      if (!local_.ok()) return local_;
      if (BeginsAnew(status)) continue;
      if (!retry_.WaitAfter(status)) return status;
    }
  }

 private:
  // Returns whether the next attempt is to send all of it: what others sent of the same blob was
  // rejected with what followed it, or somebody holds that upload and does not come to an end.
  bool BeginsAnew(const absl::Status& status) {
    const bool is_rejected = absl::IsInvalidArgument(status);
    if (absl::IsAborted(status)) ++waits_;
    if (sent_from_ == 0 || anew_ == kBeginningsAnew) return false;
    if (!is_rejected && waits_ < kWaitsForOthers) return false;
    waits_ = 0;
    ++anew_;
    sends_all_ = true;
    return is_rejected;  // Otherwise it is sent after a while.
  }

  // Asks where to begin and sends what follows.
  absl::Status Attempt() {
    v1::GetBlobStatusRequest question;
    *question.mutable_digest() = blob_.digest;
    v1::GetBlobStatusResponse answer;
    {
      CallGroup::Call call(calls_, kAnswerTimeout);
      const grpc::Status status = stub_->GetBlobStatus(call.context(), question, &answer);
      if (!status.ok()) return FromGrpcStatus(status, server_.address);
    }
    if (answer.complete()) {
      Tell(blob_.digest.size_bytes());
      return absl::OkStatus();
    }
    if (answer.committed_bytes() < 0 || answer.committed_bytes() > blob_.digest.size_bytes()) {
      return absl::InternalError(absl::StrCat("the server at ", server_.address, " has ",
                                              answer.committed_bytes(), " bytes of ", blob_.source,
                                              "; expected 0 to ", blob_.digest.size_bytes()));
    }
    if (answer.committed_bytes() > kept_) retry_.Succeeded();
    kept_ = answer.committed_bytes();
    Tell(kept_);
    sent_from_ = std::exchange(sends_all_, false) ? 0 : answer.committed_bytes();
    return Send(sent_from_);
  }

  absl::Status Send(int64_t offset) {
    CallGroup::Call call(calls_);
    v1::WriteBlobResponse response;
    const auto stream = stub_->WriteBlob(call.context(), &response);
    v1::WriteBlobRequest request;
    *request.mutable_digest() = blob_.digest;
    bool open = stream->Write(request);
    const int64_t total = blob_.digest.size_bytes();
    while (open && offset < total) {
      const ByteRange range = ChunkAt(total, offset);
      v1::Chunk& chunk = *request.mutable_chunk();
      chunk.set_offset_bytes(offset);
      local_ = bytes_.Read(range, *chunk.mutable_data());
      if (!local_.ok()) {
        call.context()->TryCancel();
        break;
      }
      chunk.set_crc32c(Crc32c(chunk.data()));
      open = stream->Write(request);
      offset += range.size;
      // Handed over, not yet committed; a broken stream is told about by the next attempt.
      if (open) Tell(offset);
    }
    if (open && local_.ok()) {
      request.mutable_finish();
      stream->Write(request);
      stream->WritesDone();
    }
    const grpc::Status status = stream->Finish();
    if (!local_.ok()) return local_;
    if (!status.ok()) {
      const absl::Status failure = FromGrpcStatus(status, server_.address);
      // Says which file: digests mean nothing to people.
      if (failure.code() == absl::StatusCode::kInvalidArgument) {
        return absl::InvalidArgumentError(absl::StrCat(
            blob_.source, " changed while it was sent, or was refused: ", failure.message()));
      }
      return failure;
    }
    if (!response.complete()) {
      return absl::UnavailableError(absl::StrCat("the server at ", server_.address, " has ",
                                                 response.committed_bytes(), " bytes of ",
                                                 blob_.source, "; expected all"));
    }
    Tell(total);
    return absl::OkStatus();
  }

  void Tell(int64_t offset) {
    if (offset <= told_) return;
    committed_(offset - told_);
    told_ = offset;
  }

  const JobServer& server_;
  CallGroup& calls_;
  const LocalBlob& blob_;
  const BlobBytes& bytes_;
  BytesCommitted committed_;
  const std::unique_ptr<v1::BlobService::Stub> stub_;
  Retry retry_;
  int64_t kept_ = 0;  // So many were committed before the last attempt.
  int64_t sent_from_ = 0;
  int waits_ = 0;  // They are ABORTED attempts, for which others were the reason.
  int anew_ = 0;
  bool sends_all_ = false;
  int64_t told_ = 0;    // Somebody was told of so many.
  absl::Status local_;  // It is an error of our own file.
};

}  // namespace

absl::StatusOr<std::vector<LocalBlob>> FindMissing(const JobServer& server, CallGroup& calls,
                                                   absl::Span<const LocalBlob> blobs) {
  const auto stub = v1::BlobService::NewStub(server.channel);
  std::set<std::string> missing;
  for (size_t begin = 0; begin < blobs.size(); begin += kDigestsAtOnce) {
    v1::FindMissingBlobsRequest request;
    for (const LocalBlob& blob : blobs.subspan(begin, kDigestsAtOnce)) {
      *request.add_digests() = blob.digest;
    }
    v1::FindMissingBlobsResponse response;
    CallGroup::Call call(calls, kAnswerTimeout);
    const grpc::Status status = stub->FindMissingBlobs(call.context(), request, &response);
    if (!status.ok()) return FromGrpcStatus(status, server.address);
    for (const v1::Digest& digest : response.missing()) missing.insert(DigestText(digest));
  }
  std::vector<LocalBlob> result;
  for (const LocalBlob& blob : blobs) {
    if (missing.erase(DigestText(blob.digest)) > 0) result.push_back(blob);
  }
  return result;
}

absl::Status UploadBlob(const JobServer& server, CallGroup& calls, const LocalBlob& blob,
                        BytesCommitted committed) {
  const auto bytes = BlobBytes::Open(blob);
  if (!bytes.ok()) return bytes.status();
  return BlobUpload(server, calls, blob, *bytes, committed).Run();
}

}  // namespace salient::client
