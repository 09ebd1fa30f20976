#include "server/rpc/watch_job_reactor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/convert_job.h"
#include "server/rpc/field_error.h"
#include "server/rpc/status.h"
#include "server/workers/call_error.h"

namespace salient {

WatchJobReactor* WatchJobReactor::Start(JobTable& jobs, Metrics::Rpc& rpc, absl::Duration heartbeat,
                                        grpc::CallbackServerContext* context,
                                        const v1::WatchJobRequest* request) {
  std::shared_ptr<WatchJobReactor> reactor(new WatchJobReactor(rpc, heartbeat, context->peer()));
  reactor->self_ = reactor;
  reactor->Open(jobs, *request);
  return reactor.get();
}

WatchJobReactor::WatchJobReactor(Metrics::Rpc& rpc, absl::Duration heartbeat,
                                 const std::string& peer)
    : heartbeat_(heartbeat),
      record_(rpc, "WatchJob", peer),
      end_([this](const absl::Status& status) {
        ServerWriteReactor::Finish(ToGrpcStatus(status));
      }) {}

void WatchJobReactor::Open(JobTable& jobs, const v1::WatchJobRequest& request) {
  record_.Received(request.ByteSizeLong());
  if (request.after_revision() < 0) {
    End(BadField(Reason::kBadJob, "after_revision", absl::StrCat(request.after_revision()),
                 "at least 0"));
    return;
  }
  revision_ = request.after_revision();
  {
    absl::MutexLock lock(&mu_);
    sending_ = true;  // woken while it is being made, nobody sends
  }
  auto watch = jobs.Watch(request.name(), revision_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Send();
  });
  if (!watch.ok()) {
    End(watch.status());
    return;
  }
  watch_ = *std::move(watch);
  alarm_ = std::make_shared<PeriodicAlarm>(PeriodFor(heartbeat_), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Look();
  });
  alarm_->Start();
  {
    absl::MutexLock lock(&mu_);
    sending_ = false;
  }
  Send();
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
  *response_.mutable_event() = ToProto(event);
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
  record_.Sent(response_.ByteSizeLong());
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
  *response_.mutable_event() = HeartbeatAt(revision_);
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
  watch_ = nullptr;  // here: an alarm may hold this object longer than the table lives
  self_ = nullptr;   // may be the last
}

}  // namespace salient
