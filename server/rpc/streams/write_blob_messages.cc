// Implements what WriteBlobReactor does with the messages of its client.
#include <grpcpp/impl/codegen/proto_utils.h>

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/calls/call_messages.h"
#include "server/error/call_error.h"
#include "server/rpc/convert/blob.h"
#include "server/rpc/streams/store_error.h"
#include "server/rpc/streams/write_blob_reactor.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/store/upload.h"
#include "server/workers/stream_end.h"

namespace salient {
namespace {

// So much is hashed at a time, a millisecond's work, before others have their turn.
constexpr int64_t kHashBytes = int64_t{1} << 20;

absl::Status ClientIsGone() {
  return absl::CancelledError("the client cancelled, or its connection broke");
}

absl::Status OutOfOrder(absl::string_view got, absl::string_view expected) {
  return InvalidCall(Reason::kMessageOrder, absl::StrCat("got ", got, "; expected ", expected));
}

v1::WriteBlobResponse Response(int64_t committed_bytes, bool complete) {
  v1::WriteBlobResponse response;
  response.set_committed_bytes(committed_bytes);
  response.set_complete(complete);
  return response;
}

}  // namespace

WriteBlobReactor::Step WriteBlobReactor::Parsed(grpc::ByteBuffer buffer) {
  v1::WriteBlobRequest request;
  if (!grpc::SerializationTraits<v1::WriteBlobRequest>::Deserialize(&buffer, &request).ok()) {
    return InvalidCall(Reason::kMessageOrder,
                       "a message is no WriteBlobRequest; expected protobuf wire format");
  }
  const absl::StatusOr<UploadMessage> message = ToUploadMessage(std::move(request));
  if (!message.ok()) return message.status();
  if (const auto* digest = std::get_if<Digest>(&*message)) {
    if (digest_.has_value()) return OutOfOrder("a second digest", "chunk or finish");
    return Begin(*digest);
  }
  const auto* chunk = std::get_if<ChunkData>(&*message);
  if (!digest_.has_value()) {
    return OutOfOrder(chunk != nullptr ? "chunk" : "finish", "digest, the first message");
  }
  return chunk != nullptr ? Append(*chunk) : Complete();
}

WriteBlobReactor::Step WriteBlobReactor::Begin(const Digest& digest) {
  digest_ = digest;
  if (absl::Status size = transfer_.store.CheckSize(digest); !size.ok()) return ToStoreError(size);
  if (transfer_.store.Status(digest).complete) return Response(digest.size_bytes, true);
  return std::nullopt;
}

WriteBlobReactor::Step WriteBlobReactor::OpenAt(int64_t offset_bytes) {
  if (upload_.has_value()) return std::nullopt;
  absl::StatusOr<Upload> upload =
      transfer_.store.BeginUpload(*digest_, BlobStore::Maker::kClient, offset_bytes);
  if (upload.ok()) {
    upload_ = *std::move(upload);
    return std::nullopt;
  }
  if (absl::IsAlreadyExists(upload.status())) return Response(digest_->size_bytes, true);
  if (absl::IsOutOfRange(upload.status())) {
    return WithField(WithReason(upload.status(), Reason::kOffset), "chunk.offset_bytes");
  }
  absl::Status status = ToStoreError(upload.status());
  if (!absl::IsAborted(status)) return status;
  return WithRetryAfter(std::move(status), transfer_.store.limits().takeover_after);
}

WriteBlobReactor::Step WriteBlobReactor::Append(const ChunkData& chunk) {
  Step opened = OpenAt(chunk.offset_bytes);
  if (!opened.ok() || opened->has_value()) return opened;
  const Digest& digest = *digest_;
  absl::Status status = upload_->Append(chunk.offset_bytes, chunk.data);
  transfer_.jobs.BlobChanged(digest);
  if (status.ok()) {
    transfer_.metrics.BlobBytesWritten(static_cast<int64_t>(chunk.data.size()));
    return std::nullopt;
  }
  if (absl::IsAlreadyExists(status)) return Response(digest.size_bytes, true);
  if (absl::IsOutOfRange(status)) {
    return WithField(WithReason(std::move(status), Reason::kOffset), "chunk.offset_bytes");
  }
  if (absl::IsInvalidArgument(status)) {
    return WithField(WithReason(std::move(status), Reason::kBadShape), "chunk.data");
  }
  return ToStoreError(std::move(status));
}

WriteBlobReactor::Step WriteBlobReactor::Complete() {
  const Digest& digest = *digest_;
  // The stream had no chunk: all bytes are there, from streams before, or some are missing.
  Step opened = OpenAt(transfer_.store.Status(digest).committed_bytes);
  if (!opened.ok() || opened->has_value()) return opened;
  if (upload_->committed_bytes() != digest.size_bytes) return Finished(absl::OkStatus());
  const absl::StatusOr<int64_t> left = upload_->HashMore(kHashBytes);
  is_hashing_ = left.ok() && *left > 0;
  if (is_hashing_) return std::nullopt;
  return Finished(left.status());
}

void WriteBlobReactor::HashMore() {
  const StreamEnd::Operation operation = end_.Begin();
  if (context_->IsCancelled()) {  // also when the deadline passed
    Fail(ClientIsGone());
    return;
  }
  const absl::StatusOr<int64_t> left = upload_->HashMore(kHashBytes);
  if (left.ok() && *left > 0) {
    transfer_.lanes.hashing.Continue([self = shared_from_this()] { self->HashMore(); });
    return;
  }
  transfer_.pool.Submit(WorkerPool::Lane::kShort,
                        [self = shared_from_this(), hashed = left.status()] {
                          const StreamEnd::Operation ending = self->end_.Begin();
                          const Step step = self->Finished(hashed);
                          step.ok() ? self->Answer(**step) : self->Fail(step.status());
                        });
}

WriteBlobReactor::Step WriteBlobReactor::Finished(absl::Status hashed) {
  const Digest& digest = *digest_;
  const bool all_there = upload_->committed_bytes() == digest.size_bytes;
  absl::Status status = hashed.ok() ? upload_->Finish() : std::move(hashed);
  transfer_.jobs.BlobChanged(digest);
  if (status.ok() || absl::IsAlreadyExists(status)) return Response(digest.size_bytes, true);
  if (absl::IsInvalidArgument(status)) {
    return WithReason(std::move(status),
                      all_there ? Reason::kDigestMismatch : Reason::kMissingBytes);
  }
  return ToStoreError(std::move(status));
}

void WriteBlobReactor::EndOfInput() {
  const StreamEnd::Operation operation = end_.Begin();
  if (context_->IsCancelled()) {
    Fail(ClientIsGone());
  } else if (!digest_.has_value()) {
    Fail(OutOfOrder("the end of the stream", "digest, the first message"));
  } else {
    // Closing is no finish: what is committed stays for the next stream.
    Answer(Response(Committed(), false));
  }
}

int64_t WriteBlobReactor::Committed() const {
  return upload_.has_value() ? upload_->committed_bytes()
                             : transfer_.store.Status(*digest_).committed_bytes;
}

}  // namespace salient
