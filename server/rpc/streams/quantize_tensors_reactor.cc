#include "server/rpc/streams/quantize_tensors_reactor.h"

#include <grpc/grpc.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "salient/v1/quantization_service.grpc.pb.h"
#include "server/calls/call_messages.h"
#include "server/calls/result_queue.h"
#include "server/error/call_error.h"
#include "server/rpc/convert/status.h"
#include "server/rpc/convert/tensors.h"

namespace salient {
namespace {

constexpr absl::Duration kLingerPeriod = absl::Seconds(5);
constexpr absl::Duration kLongestLinger = absl::Seconds(60);

absl::StatusOr<CallMessage> Parse(grpc::ByteBuffer buffer) {
  v1::QuantizeTensorsRequest request;
  const grpc::Status parsed =
      grpc::SerializationTraits<v1::QuantizeTensorsRequest>::Deserialize(&buffer, &request);
  if (!parsed.ok()) {
    return InvalidCall(Reason::kMessageOrder,
                       "a message is no QuantizeTensorsRequest; expected protobuf wire format and "
                       "names in UTF-8");
  }
  return ToCallMessage(std::move(request));
}

GroupOutcome OutcomeOf(const FinishedGroup& group) {
  const auto& report = group.result.report;
  return {
      report.parameters, group.elapsed, report.loss_rtn, report.loss, report.relative_output_error,
      report.fold_error};
}

}  // namespace

QuantizeTensorsReactor* QuantizeTensorsReactor::Start(QuantizeTensorsShared& shared,
                                                      grpc::CallbackServerContext* context) {
  std::shared_ptr<QuantizeTensorsReactor> reactor(new QuantizeTensorsReactor(shared, context));
  reactor->self_ = reactor;
  reactor->Open();
  return reactor.get();
}

QuantizeTensorsReactor::QuantizeTensorsReactor(QuantizeTensorsShared& shared,
                                               grpc::CallbackServerContext* context)
    : shared_(shared),
      context_(context),
      record_(shared.rpc, "QuantizeTensors", context->peer()),
      end_([this](const absl::Status& status) {
        ServerBidiReactor::Finish(ToGrpcStatus(status));
      }) {}

void QuantizeTensorsReactor::Open() {
  absl::StatusOr<std::shared_ptr<TensorCall>> call = shared_.registry.Open(shared_from_this());
  if (!call.ok()) {
    Finish(call.status());
    return;
  }
  {
    absl::MutexLock lock(&mu_);
    call_ = *call;
  }
  (*call)->Start();
}

std::shared_ptr<TensorCall> QuantizeTensorsReactor::Call() {
  absl::MutexLock lock(&mu_);
  return call_;
}

void QuantizeTensorsReactor::ReadNext() {
  const StreamEnd::Operation operation = end_.Begin();
  {
    absl::MutexLock lock(&mu_);
    if (end_.decided().has_value()) return;
    reading_ = true;
  }
  StartRead(&read_buffer_);
}

void QuantizeTensorsReactor::OnReadDone(bool ok) {
  bool dropping = false;
  std::shared_ptr<TensorCall> call;
  {
    absl::MutexLock lock(&mu_);
    reading_ = false;
    dropping = end_.decided().has_value();
    input_ended_ = !ok;
    progress_ = progress_ || ok;
    call = call_;
  }
  if (dropping) {
    if (ok) DropNext();
  } else if (ok) {
    record_.Received(read_buffer_.Length());
    grpc::ByteBuffer buffer;
    buffer.Swap(&read_buffer_);
    call->Deliver([buffer] { return Parse(buffer); });
  } else if (!context_->IsCancelled()) {
    call->EndOfInput();
  }  // else OnCancel says so
}

void QuantizeTensorsReactor::ResultReady() { SendResults(); }

void QuantizeTensorsReactor::OnWriteDone(bool ok) {
  StreamEnd::Operation write;
  std::shared_ptr<TensorCall> call;
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    write = std::move(write_);
    call = call_;
  }
  if (!ok) call->Cancel();
  SendResults();
}

// Writes the next result unless a write is outstanding; its end comes back here.
void QuantizeTensorsReactor::SendResults() {
  const StreamEnd::Operation operation = end_.Begin();
  std::shared_ptr<TensorCall> call;
  {
    absl::MutexLock lock(&mu_);
    result_ready_ = true;
    if (writing_ || sending_ || end_.decided().has_value()) return;
    sending_ = true;
    call = call_;
  }
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      // Whoever made a result ready while this thread looked found it sending.
      if (!result_ready_ || end_.decided().has_value()) {
        sending_ = false;
        return;
      }
      result_ready_ = false;
    }
    const std::optional<OutgoingResult> result = call->TakeResult();
    if (!result.has_value()) continue;
    SetWriteBuffer(*result);
    {
      absl::MutexLock lock(&mu_);
      sending_ = false;
      if (end_.decided().has_value()) return;
      writing_ = true;
      write_ = end_.Begin();
    }
    record_.Sent(write_buffer_.Length());
    StartWrite(&write_buffer_);
    return;
  }
}

void QuantizeTensorsReactor::SetWriteBuffer(const OutgoingResult& result) {
  if (!result.tensor_index.has_value()) shared_.metrics.GroupDone(OutcomeOf(*result.group));
  const v1::QuantizeTensorsResponse response = ToResponse(result);
  bool own_buffer = false;
  write_buffer_.Clear();
  // It goes into memory and cannot fail.
  (void)grpc::SerializationTraits<v1::QuantizeTensorsResponse>::Serialize(response, &write_buffer_,
                                                                          &own_buffer);
}

void QuantizeTensorsReactor::Finish(const absl::Status& status) {
  const StreamEnd::Operation operation = end_.Begin();
  std::shared_ptr<TensorCall> call;
  bool lingers = false;
  {
    absl::MutexLock lock(&mu_);
    if (!end_.Decide(status)) return;
    lingers = writing_;
    progress_ = false;
    linger_end_ = absl::Now() + kLongestLinger;
    call = call_;
  }
  record_.End(status, call == nullptr ? CallSummary() : call->Summary());
  if (lingers && !context_->IsCancelled()) {
    ArmLinger();
    DropNext();
  }
}

// Reads what nobody wants any more, so that the client's writes end.
void QuantizeTensorsReactor::DropNext() {
  const StreamEnd::Operation operation = end_.Begin();
  if (!operation) return;
  {
    absl::MutexLock lock(&mu_);
    if (!writing_ || reading_ || input_ended_) return;
    reading_ = true;
  }
  read_buffer_.Clear();
  StartRead(&read_buffer_);
}

void QuantizeTensorsReactor::ArmLinger() {
  const StreamEnd::Operation operation = end_.Begin();
  if (!operation) return;
  auto alarm = std::make_unique<grpc::Alarm>();
  grpc::Alarm* const armed = alarm.get();
  absl::MutexLock lock(&mu_);
  std::swap(alarm, alarm_);
  armed->Set(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kLingerPeriod),
             [weak = weak_from_this()](bool expired) {
               if (!expired) return;
               if (const auto self = weak.lock()) self->OnLingerAlarm();
             });
}

void QuantizeTensorsReactor::OnLingerAlarm() {
  const StreamEnd::Operation operation = end_.Begin();
  if (!operation) return;
  bool goes_on = false;
  {
    absl::MutexLock lock(&mu_);
    if (!writing_) return;
    goes_on = progress_ && absl::Now() < linger_end_;
    progress_ = false;
  }
  if (goes_on) {
    ArmLinger();
    return;
  }
  // Past the data that nobody reads only a reset gets through; it carries no details.
  const absl::Status status = *end_.decided();
  const std::string message = absl::StrCat(Name(DetailsOf(status).reason), ": ", status.message());
  grpc_call_cancel_with_status(context_->c_call(), static_cast<grpc_status_code>(status.code()),
                               message.c_str(), nullptr);
}

// Both ends watch the deadline, and the client's reset may come a little before ours.
bool QuantizeTensorsReactor::DeadlinePassed() const {
  const std::chrono::system_clock::time_point deadline = context_->deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return false;
  const absl::Time end = absl::FromChrono(deadline);
  return absl::Now() >= end - absl::Milliseconds(50) - (end - start_) / 100;
}

void QuantizeTensorsReactor::OnCancel() {
  const std::shared_ptr<TensorCall> call = Call();
  if (call == nullptr) return;
  if (DeadlinePassed()) {
    call->Expire();
  } else {
    call->Cancel();
  }
}

void QuantizeTensorsReactor::OnDone() {
  std::unique_ptr<grpc::Alarm> alarm;
  std::shared_ptr<TensorCall>
      call;  // It goes here: an alarm may hold this object longer than it may live.
  {
    absl::MutexLock lock(&mu_);
    alarm = std::move(alarm_);
    call = std::move(call_);
  }
  alarm = nullptr;
  call = nullptr;
  self_ = nullptr;  // It may be the last pointer.
}

}  // namespace salient
