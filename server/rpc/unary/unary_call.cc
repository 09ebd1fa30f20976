#include "server/rpc/unary/unary_call.h"

#include <chrono>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/error/call_error.h"
#include "server/process/memory.h"
#include "server/rpc/convert/status.h"
#include "server/rpc/unary/rpc_record.h"

namespace salient {
namespace {

// Owns itself until OnDone. The thread that ends it is the only one that decides its status.
class UnaryReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit UnaryReactor(const UnaryCall& call)
      : context_(call.context), record_(call.metrics, call.method, call.context->peer()) {
    record_.Received(call.request->Length());
  }

  // gRPC also calls it when the deadline passes.
  void OnCancel() override {
    if (std::chrono::system_clock::now() >= context_->deadline()) {
      stop_.Expire();
    } else {
      stop_.Cancel();
    }
  }
  void OnDone() override { delete this; }

  // The reactor may be gone when it returns.
  void End(const absl::Status& status, size_t response_bytes) {
    if (status.ok()) record_.Sent(response_bytes);
    record_.End(status);
    pass_ = nullptr;
    Finish(ToGrpcStatus(status));
  }

  void Hold(DrainGate::Pass pass) { pass_ = std::move(pass); }
  const CancelToken& stop() const { return stop_; }

 private:
  grpc::CallbackServerContext* const context_;
  RpcRecord record_;
  DrainGate::Pass pass_;
  CancelToken stop_;
};

}  // namespace

absl::Status CheckRequestLength(absl::string_view method, const grpc::ByteBuffer& request,
                                size_t max_bytes) {
  if (request.Length() <= max_bytes) return absl::OkStatus();
  return InvalidCall(Reason::kRequestTooLarge,
                     absl::StrCat("the request of ", method, " has ", request.Length(),
                                  " bytes; expected at most ", max_bytes));
}

absl::Status NotParsed(absl::string_view name) {
  return InvalidCall(Reason::kMessageOrder,
                     absl::StrCat("the request is no ", name, "; expected protobuf wire format"));
}

grpc::ServerUnaryReactor* StartUnary(const UnaryCall& call, UnaryWork work) {
  auto* reactor = new UnaryReactor(call);
  absl::Status status = CheckRequestLength(call.method, *call.request, call.max_request_bytes);
  if (status.ok() && call.gate != nullptr) {
    absl::StatusOr<DrainGate::Pass> pass = call.gate->Enter();
    status = pass.status();
    if (pass.ok()) reactor->Hold(*std::move(pass));
  }
  if (status.ok()) {
    status = call.lane.Submit(
        [reactor, request = call.request, response = call.response,
         much = call.may_take_much_memory, work = std::move(work)]() mutable {
          std::optional<TrimmedWork> trimmed;
          if (much) trimmed.emplace();
          absl::Status done = reactor->stop().Check();
          if (done.ok()) done = work(*request, *response, reactor->stop());
          work = nullptr;
          reactor->End(done, response->Length());
        },
        static_cast<int64_t>(call.request->Length()), call.context->peer());
  }
  if (!status.ok()) reactor->End(status, 0);
  return reactor;
}

}  // namespace salient
