// QuantizeTensors on the wire: frames in, frames out, nothing that blocks.
#ifndef SALIENT_SERVER_RPC_STREAMS_QUANTIZE_TENSORS_REACTOR_H_
#define SALIENT_SERVER_RPC_STREAMS_QUANTIZE_TENSORS_REACTOR_H_

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/calls/call_registry.h"
#include "server/calls/result_queue.h"
#include "server/calls/tensor_call.h"
#include "server/observe/metrics.h"
#include "server/rpc/unary/rpc_record.h"
#include "server/workers/stream_end.h"

namespace salient {

// Holds what the reactors of a service share. Outlives them.
struct QuantizeTensorsShared {
  CallRegistry& registry;
  Metrics& metrics;
  Metrics::Rpc& rpc;
};

// One read and one write are outstanding at most. Messages are handed over as bytes and parsed by
// a worker, so that a message that is no QuantizeTensorsRequest gets an answer that says so.
//
// Finish follows the end of the outstanding write. When a call fails while its client reads
// nothing, that write cannot end, and the status could not get past it: what the client still
// sends is then read and dropped, so that a client that writes before it reads comes to read;
// after kLingerPeriod without any progress the stream is reset with the bare status.
class QuantizeTensorsReactor final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public CallTransport,
      public std::enable_shared_from_this<QuantizeTensorsReactor> {
 public:
  // Opens a call of `shared.registry`; one that is refused finishes at once. The reactor owns
  // itself until OnDone.
  static QuantizeTensorsReactor* Start(QuantizeTensorsShared& shared,
                                       grpc::CallbackServerContext* context);

  // These implement CallTransport.
  void ReadNext() override;
  void ResultReady() override;
  void Finish(const absl::Status& status) override;

  // These implement grpc::ServerBidiReactor.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  QuantizeTensorsReactor(QuantizeTensorsShared& shared, grpc::CallbackServerContext* context);

  void Open();
  std::shared_ptr<TensorCall> Call();
  void SendResults();
  void SetWriteBuffer(const OutgoingResult& result);
  void DropNext();
  void ArmLinger();
  void OnLingerAlarm();
  bool DeadlinePassed() const;

  QuantizeTensorsShared& shared_;
  grpc::CallbackServerContext* const context_;
  const absl::Time start_ = absl::Now();
  RpcRecord record_;
  StreamEnd end_;  // It is decided under mu_.
  std::shared_ptr<QuantizeTensorsReactor> self_;
  grpc::ByteBuffer read_buffer_;
  grpc::ByteBuffer write_buffer_;

  absl::Mutex mu_;
  std::shared_ptr<TensorCall> call_
      ABSL_GUARDED_BY(mu_);  // It is null if the call was refused, or is done.
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  StreamEnd::Operation write_ ABSL_GUARDED_BY(mu_);
  bool sending_ ABSL_GUARDED_BY(mu_) = false;  // A thread is looking for something to write.
  bool result_ready_ ABSL_GUARDED_BY(mu_) = false;

  // It ends the lingering.
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mu_);
  bool progress_ ABSL_GUARDED_BY(mu_) = false;
  bool input_ended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time linger_end_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAMS_QUANTIZE_TENSORS_REACTOR_H_
