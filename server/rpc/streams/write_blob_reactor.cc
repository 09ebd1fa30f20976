#include "server/rpc/streams/write_blob_reactor.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"
#include "server/observe/metrics.h"
#include "server/rpc/convert/status.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/store/digest.h"

namespace salient {
namespace {

absl::Status WithCommitted(absl::Status status, int64_t committed_bytes) {
  return WithMetadata(std::move(status), "committed_bytes", absl::StrCat(committed_bytes));
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

void WriteBlobReactor::Take(const grpc::ByteBuffer& message) {
  const StreamEnd::Operation operation = end_.Begin();
  Step step = Parsed(message);
  if (!step.ok()) {
    Fail(step.status());
    return;
  }
  if (step->has_value()) {
    Answer(**step);
  } else if (is_hashing_) {
    absl::Status taken =
        transfer_.lanes.hashing.Submit([self = shared_from_this()] { self->HashMore(); });
    if (!taken.ok()) Fail(std::move(taken));
  } else {
    TakeNext();
  }
}

void WriteBlobReactor::TakeNext() {
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
