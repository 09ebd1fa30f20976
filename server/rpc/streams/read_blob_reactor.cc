#include "server/rpc/streams/read_blob_reactor.h"

#include <grpc/grpc.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/chunk.h"
#include "server/error/call_error.h"
#include "server/observe/metrics.h"
#include "server/rpc/convert/blob.h"
#include "server/rpc/convert/status.h"
#include "server/rpc/streams/store_error.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/store/digest.h"

namespace salient {
ReadBlobReactor* ReadBlobReactor::Start(BlobTransfer& transfer, Metrics::Rpc& rpc,
                                        grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request) {
  std::shared_ptr<ReadBlobReactor> reactor(new ReadBlobReactor(transfer, rpc, context));
  reactor->self_ = reactor;
  reactor->Open(*request);
  return reactor.get();
}

ReadBlobReactor::ReadBlobReactor(BlobTransfer& transfer, Metrics::Rpc& rpc,
                                 grpc::CallbackServerContext* context)
    : transfer_(transfer),
      context_(context),
      record_(rpc, "ReadBlob", context->peer()),
      end_([this](const absl::Status& status) {
        ServerWriteReactor::Finish(ToGrpcStatus(status));
      }) {}

void ReadBlobReactor::Open(const grpc::ByteBuffer& request) {
  record_.Received(request.Length());
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
  transfer_.pool.Submit(WorkerPool::Lane::kShort,
                        [self = shared_from_this(), request] { self->Begin(request); });
}

void ReadBlobReactor::Begin(const grpc::ByteBuffer& request) {
  if (absl::Status status = OpenReader(request); !status.ok()) {
    Close(status);
  } else {
    Prepare();
  }
}

absl::Status ReadBlobReactor::OpenReader(grpc::ByteBuffer buffer) {
  v1::ReadBlobRequest request;
  if (!grpc::SerializationTraits<v1::ReadBlobRequest>::Deserialize(&buffer, &request).ok()) {
    return InvalidCall(Reason::kMessageOrder,
                       "the request is no ReadBlobRequest; expected protobuf wire format");
  }
  const absl::StatusOr<BlobRange> range = ToBlobRange(request);
  if (!range.ok()) return range.status();
  digest_ = range->digest;
  auto reader = transfer_.store.Read(digest_, range->offset_bytes, range->limit_bytes);
  if (!reader.ok()) {
    const bool beyond = absl::IsOutOfRange(reader.status());
    absl::Status status = ToStoreError(reader.status());
    return beyond ? WithField(std::move(status), "offset_bytes") : status;
  }
  reader_ = *std::move(reader);
  if (range->offset_bytes == 0 && reader_->end_offset() == digest_.size_bytes) {
    sha256_.emplace();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadBlobReactor::NextChunk() {
  auto data = reader_->Next(kChunkBytes);
  if (!data.ok()) return ToStoreError(data.status());
  if (sha256_.has_value() && !data->empty()) {
    sha256_->Update(*data);
    if (sha256_->size_bytes() == digest_.size_bytes && DigestOf(*sha256_) != digest_) {
      // Reads it again, and takes it out of the store if it is not this read that erred.
      const absl::Status damaged = transfer_.store.Verify(digest_);
      return ToStoreError(damaged.ok() ? absl::DataLossError(absl::StrCat(
                                             "blob ", ToString(digest_),
                                             ": what was read does not have the digest; try again"))
                                       : damaged);
    }
  }
  return data;
}

absl::StatusOr<std::optional<ReadBlobReactor::Message>> ReadBlobReactor::NextMessage() {
  const int64_t offset_bytes = reader_->next_offset();
  absl::StatusOr<std::string> data = NextChunk();
  if (!data.ok()) return data.status();
  if (data->empty()) return std::nullopt;
  Message message;
  message.data_bytes = static_cast<int64_t>(data->size());
  const v1::ReadBlobResponse response = ToChunkResponse(offset_bytes, *std::move(data));
  bool own_buffer = false;
  // It goes into memory and cannot fail.
  (void)grpc::SerializationTraits<v1::ReadBlobResponse>::Serialize(response, &message.buffer,
                                                                   &own_buffer);
  return message;
}

void ReadBlobReactor::Prepare() {
  absl::StatusOr<std::optional<Message>> message = NextMessage();
  absl::Status broken;
  {
    absl::MutexLock lock(&mu_);
    if (writing_since_.has_value()) {
      prepared_ = std::move(message);
      return;
    }
    broken = broken_;
  }
  if (broken.ok()) {
    Send(std::move(message));
  } else {
    Close(broken);
  }
}

void ReadBlobReactor::Send(absl::StatusOr<std::optional<Message>> message) {
  const StreamEnd::Operation operation = end_.Begin();
  const auto self = shared_from_this();
  if (!message.ok() || !message->has_value()) {
    transfer_.pool.Submit(WorkerPool::Lane::kShort,
                          [self, status = message.status()] { self->Close(status); });
    return;
  }
  write_buffer_.Clear();
  write_buffer_.Swap(&(*message)->buffer);
  record_.Sent(write_buffer_.Length());
  transfer_.metrics.BlobBytesRead((*message)->data_bytes);
  {
    absl::MutexLock lock(&mu_);
    writing_since_ = absl::Now();
  }
  StartWrite(&write_buffer_);
  transfer_.pool.Submit(WorkerPool::Lane::kShort, [self] { self->Prepare(); });
}

void ReadBlobReactor::OnWriteDone(bool ok) {
  absl::StatusOr<std::optional<Message>> next;
  {
    absl::MutexLock lock(&mu_);
    writing_since_ = std::nullopt;
    if (not_reading_) {
      broken_ = CallError(
          absl::StatusCode::kAborted, Reason::kClientNotReading,
          absl::StrCat("nothing was read for ", absl::FormatDuration(transfer_.idle_timeout)));
    } else if (!ok) {
      broken_ = absl::CancelledError("the client cancelled, or its connection broke");
    }
    if (!prepared_.has_value()) return;  // The worker that makes it goes on.
    next = *std::move(prepared_);
    prepared_ = std::nullopt;
    if (!broken_.ok()) next = broken_;
  }
  Send(std::move(next));
}

// The status of a stream cannot get past data that nobody reads; a reset can.
void ReadBlobReactor::Look() {
  const StreamEnd::Operation operation = end_.Begin();
  if (!operation) return;
  {
    absl::MutexLock lock(&mu_);
    if (!writing_since_.has_value() || not_reading_) return;
    if (absl::Now() - *writing_since_ < transfer_.idle_timeout) return;
    not_reading_ = true;
  }
  const std::string message = absl::StrCat(Name(Reason::kClientNotReading), ": nothing was read");
  grpc_call_cancel_with_status(context_->c_call(), GRPC_STATUS_ABORTED, message.c_str(), nullptr);
}

void ReadBlobReactor::Close(const absl::Status& status) {
  reader_ = std::nullopt;  // It closes here, because closing a file may wait for a disk.
  End(status);
}

void ReadBlobReactor::End(const absl::Status& status) {
  const StreamEnd::Operation operation = end_.Begin();
  if (end_.Decide(status)) record_.End(status);
}

void ReadBlobReactor::OnDone() {
  if (alarm_ != nullptr) alarm_->Stop();
  pass_ = nullptr;  // It goes here: an alarm may hold this object longer than the gate lives.
  self_ = nullptr;  // It may be the last pointer.
}

}  // namespace salient
