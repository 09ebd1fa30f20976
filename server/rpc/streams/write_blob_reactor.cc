#include "server/rpc/streams/write_blob_reactor.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"
#include "server/rpc/convert/status.h"
#include "server/rpc/streams/store_error.h"

namespace salient {
namespace {

absl::Status WithCommitted(absl::Status status, int64_t committed_bytes) {
  return WithMetadata(std::move(status), "committed_bytes", absl::StrCat(committed_bytes));
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

WriteBlobReactor* WriteBlobReactor::Start(BlobTransfer& transfer, Metrics::Rpc& rpc,
                                          grpc::CallbackServerContext* context,
                                          grpc::ByteBuffer* response) {
  std::shared_ptr<WriteBlobReactor> reactor(new WriteBlobReactor(transfer, rpc, context, response));
  reactor->self_ = reactor;
  reactor->Open();
  return reactor.get();
}

WriteBlobReactor::WriteBlobReactor(BlobTransfer& transfer, Metrics::Rpc& rpc,
                                   grpc::CallbackServerContext* context, grpc::ByteBuffer* response)
    : transfer_(transfer),
      context_(context),
      response_(response),
      record_(rpc, "WriteBlob", context->peer()),
      end_([this](const absl::Status& status) {
        ServerReadReactor::Finish(ToGrpcStatus(status));
      }) {}

void WriteBlobReactor::Open() {
  absl::StatusOr<DrainGate::Pass> pass = transfer_.gate.Enter();
  if (!pass.ok()) {
    End(pass.status());
    return;
  }
  pass_ = *std::move(pass);
  alarm_ =
      std::make_shared<PeriodicAlarm>(PeriodFor(transfer_.idle_timeout), [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Look();
      });
  alarm_->Start();
  {
    absl::MutexLock lock(&mu_);
    waiting_since_ = absl::Now();
  }
  StartRead(&read_buffer_);
}

void WriteBlobReactor::OnReadDone(bool ok) {
  const StreamEnd::Operation operation = end_.Begin();
  grpc::ByteBuffer message;
  {
    absl::MutexLock lock(&mu_);
    if (!listening_) return;  // A status came first.
    waiting_since_ = std::nullopt;
    input_ended_ = !ok;
    if (ok) {
      record_.Received(read_buffer_.Length());
      message.Swap(&read_buffer_);
    }
    if (taking_) {
      if (ok) next_ = std::move(message);
      return;
    }
    taking_ = true;
  }
  if (!ok) {
    transfer_.pool.Submit(WorkerPool::Lane::kShort,
                          [self = shared_from_this()] { self->EndOfInput(); });
    return;
  }
  transfer_.pool.Submit(WorkerPool::Lane::kShort,
                        [self = shared_from_this(), message] { self->Take(message); });
  StartRead(&read_buffer_);
}

void WriteBlobReactor::Look() {
  const StreamEnd::Operation operation = end_.Begin();
  {
    absl::MutexLock lock(&mu_);
    if (!listening_ || !waiting_since_.has_value()) return;
    if (absl::Now() - *waiting_since_ < transfer_.idle_timeout) return;
    listening_ = false;
  }
  transfer_.pool.Submit(WorkerPool::Lane::kShort, [self = shared_from_this()] {
    self->Fail(CallError(
        absl::StatusCode::kAborted, Reason::kClientIdle,
        absl::StrCat("no message came for ", absl::FormatDuration(self->transfer_.idle_timeout),
                     "; continue from what is committed")));
  });
}

void WriteBlobReactor::Take(grpc::ByteBuffer message) {
  const StreamEnd::Operation operation = end_.Begin();
  Step step = Parsed(std::move(message));
  if (!step.ok()) {
    Fail(step.status());
    return;
  }
  if (step->has_value()) {
    Answer(**step);
    return;
  }
  bool ended = false;
  std::optional<grpc::ByteBuffer> next;
  {
    absl::MutexLock lock(&mu_);
    next.swap(next_);
    ended = !next.has_value() && input_ended_;
    if (!next.has_value() && !ended) {
      taking_ = false;
      waiting_since_ = absl::Now();
    }
  }
  if (ended) EndOfInput();
  if (!next.has_value()) return;
  transfer_.pool.Submit(WorkerPool::Lane::kShort,
                        [self = shared_from_this(), next = *std::move(next)] { self->Take(next); });
  StartRead(&read_buffer_);
}

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
  const bool all_there = upload_->committed_bytes() == digest.size_bytes;
  absl::Status status = upload_->Finish();
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
    Fail(absl::CancelledError("the client cancelled, or its connection broke"));
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

void WriteBlobReactor::Fail(absl::Status status) {
  if (digest_.has_value()) {
    status = WithCommitted(std::move(status), Committed());
    status = WithMetadata(std::move(status), "blob", ToString(*digest_));
  }
  upload_ = std::nullopt;  // It goes here, because it may wait for a disk.
  End(status);
}

void WriteBlobReactor::Answer(const v1::WriteBlobResponse& response) {
  upload_ = std::nullopt;
  bool own_buffer = false;
  // It goes into memory and cannot fail.
  (void)grpc::SerializationTraits<v1::WriteBlobResponse>::Serialize(response, response_,
                                                                    &own_buffer);
  record_.Sent(response_->Length());
  End(absl::OkStatus());
}

void WriteBlobReactor::End(const absl::Status& status) {
  const StreamEnd::Operation operation = end_.Begin();
  {
    absl::MutexLock lock(&mu_);
    listening_ = false;
    next_ = std::nullopt;
  }
  if (end_.Decide(status)) record_.End(status);
}

void WriteBlobReactor::OnDone() {
  if (alarm_ != nullptr) alarm_->Stop();
  pass_ = nullptr;  // It goes here: an alarm may hold this object longer than the gate lives.
  self_ = nullptr;  // It may be the last pointer.
}

}  // namespace salient
