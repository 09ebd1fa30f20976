#include "server/rpc/streams/watch_job_reactor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "salient/v1/quantization_service.pb.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"
#include "server/jobs/job.h"
#include "server/rpc/convert/job.h"
#include "server/rpc/convert/status.h"
#include "server/rpc/unary/unary_call.h"

namespace salient {
namespace {

v1::WatchJobResponse ToResponse(v1::JobEvent event) {
  v1::WatchJobResponse response;
  *response.mutable_event() = std::move(event);
  return response;
}

}  // namespace

WatchJobReactor* WatchJobReactor::Start(JobTable& jobs, BoundedLane& lane, Metrics::Rpc& rpc,
                                        absl::Duration heartbeat,
                                        grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request) {
  std::shared_ptr<WatchJobReactor> reactor(new WatchJobReactor(rpc, heartbeat, context->peer()));
  reactor->self_ = reactor;
  reactor->record_.Received(request->Length());
  absl::Status status = CheckRequestLength("WatchJob", *request, kMaxShortRequestBytes);
  if (status.ok()) {
    status = lane.Submit([&jobs, reactor, bytes = *request] { reactor->Open(jobs, bytes); },
                         static_cast<int64_t>(request->Length()), context->peer());
  }
  if (!status.ok()) reactor->End(status);
  return reactor.get();
}

WatchJobReactor::WatchJobReactor(Metrics::Rpc& rpc, absl::Duration heartbeat,
                                 const std::string& peer)
    : heartbeat_(heartbeat),
      record_(rpc, "WatchJob", peer),
      end_([this](const absl::Status& status) {
        ServerWriteReactor::Finish(ToGrpcStatus(status));
      }) {}

void WatchJobReactor::Open(JobTable& jobs, const grpc::ByteBuffer& request) {
  const StreamEnd::Operation operation = end_.Begin();
  if (!operation || end_.decided().has_value()) return;  // The client is gone.
  if (absl::Status status = Begin(jobs, request); !status.ok()) {
    End(status);
    return;
  }
  {
    absl::MutexLock lock(&mu_);
    sending_ = false;
  }
  Send();
}

absl::Status WatchJobReactor::Begin(JobTable& jobs, const grpc::ByteBuffer& bytes) {
  const absl::StatusOr<v1::WatchJobRequest> request = Parsed<v1::WatchJobRequest>(bytes);
  if (!request.ok()) return request.status();
  if (request->after_revision() < 0) {
    return BadField(Reason::kBadJob, "after_revision", absl::StrCat(request->after_revision()),
                    "at least 0");
  }
  revision_ = request->after_revision();
  {
    absl::MutexLock lock(&mu_);
    sending_ = true;  // If it is woken while this is made, nobody else sends.
  }
  auto watch = jobs.Watch(request->name(), revision_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Send();
  });
  if (!watch.ok()) return watch.status();
  watch_ = *std::move(watch);
  alarm_ = std::make_shared<PeriodicAlarm>(PeriodFor(heartbeat_), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Look();
  });
  alarm_->Start();
  return absl::OkStatus();
}

// Writes the next event unless a write is outstanding; its end comes back here.
void WatchJobReactor::Send() {
  const StreamEnd::Operation operation = end_.Begin();
  {
    absl::MutexLock lock(&mu_);
    ready_ = true;
    if (writing_ || sending_ || end_.decided().has_value()) return;
    sending_ = true;
  }
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      // Whoever woke the watch while this thread looked found it sending.
      if (!ready_ || end_.decided().has_value()) {
        sending_ = false;
        return;
      }
      ready_ = false;
    }
    if (FillNext()) {
      Write();
      return;
    }
  }
}

// False if there is nothing to write, or nothing more: then the call has its status.
bool WatchJobReactor::FillNext() {
  const JobWatch::Batch batch = watch_->Take(1);
  if (batch.events.empty()) {
    if (batch.ended) End(absl::OkStatus());
    return false;
  }
  const JobEvent& event = batch.events.front();
  revision_ = event.revision;
  response_ = Serialized(ToResponse(ToProto(event)));
  return true;
}

// Writes response_. The caller holds an operation.
void WatchJobReactor::Write() {
  {
    absl::MutexLock lock(&mu_);
    sending_ = false;
    if (end_.decided().has_value()) return;
    writing_ = true;
    write_ = end_.Begin();
    sent_at_ = absl::Now();
  }
  record_.Sent(response_.Length());
  StartWrite(&response_);
}

void WatchJobReactor::OnWriteDone(bool ok) {
  StreamEnd::Operation write;
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    write = std::move(write_);
  }
  if (!ok) End(absl::CancelledError("the client cancelled, or its connection broke"));
  Send();
}

void WatchJobReactor::Look() {
  const StreamEnd::Operation operation = end_.Begin();
  {
    absl::MutexLock lock(&mu_);
    if (writing_ || sending_ || end_.decided().has_value()) return;
    if (absl::Now() - sent_at_ < heartbeat_) return;
    sending_ = true;
  }
  response_ = Serialized(ToResponse(HeartbeatAt(revision_)));
  Write();
}

void WatchJobReactor::OnCancel() {
  End(absl::CancelledError("the client cancelled, or its connection broke"));
}

void WatchJobReactor::End(const absl::Status& status) {
  const StreamEnd::Operation operation = end_.Begin();
  if (end_.Decide(status)) record_.End(status);
}

void WatchJobReactor::OnDone() {
  if (alarm_ != nullptr) alarm_->Stop();
  watch_ = nullptr;  // It goes here: an alarm may hold this object longer than the table lives.
  self_ = nullptr;   // It may be the last pointer.
}

}  // namespace salient
