// ReadBlob on the wire: a worker reads a chunk, gRPC writes it, then the next.
#ifndef SALIENT_SERVER_RPC_STREAMS_READ_BLOB_REACTOR_H_
#define SALIENT_SERVER_RPC_STREAMS_READ_BLOB_REACTOR_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/wire/sha256.h"
#include "server/observe/metrics.h"
#include "server/rpc/streams/blob_transfer.h"
#include "server/rpc/streams/periodic_alarm.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/rpc/unary/rpc_record.h"
#include "server/store/blob_reader.h"
#include "server/store/digest.h"
#include "server/workers/stream_end.h"

namespace salient {

// While one chunk is written the next is made ready. A client that stops reading holds these two
// and a file descriptor, and is reset after BlobTransfer::idle_timeout. A blob read from its
// beginning to its end is hashed on the way: its last chunk is sent only if the digest is still
// right. Owns itself until OnDone.
class ReadBlobReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                              public std::enable_shared_from_this<ReadBlobReactor> {
 public:
  static ReadBlobReactor* Start(BlobTransfer& transfer, Metrics::Rpc& rpc,
                                grpc::CallbackServerContext* context,
                                const grpc::ByteBuffer* request);

  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  // Is a chunk as it will be written. None is left after the last.
  struct Message {
    grpc::ByteBuffer buffer;
    int64_t data_bytes = 0;
  };

  ReadBlobReactor(BlobTransfer& transfer, Metrics::Rpc& rpc, grpc::CallbackServerContext* context);

  void Open(const grpc::ByteBuffer& request);
  // Looks at the clock.
  void Look();

  // These run on a worker, one at a time.
  void Begin(const grpc::ByteBuffer& request);
  absl::Status OpenReader(grpc::ByteBuffer request);
  void Prepare();
  absl::StatusOr<std::optional<Message>> NextMessage();
  absl::StatusOr<std::string> NextChunk();
  void Close(const absl::Status& status);

  // Runs on any thread; what ends the stream is left to a worker.
  void Send(absl::StatusOr<std::optional<Message>> message);

  void End(const absl::Status& status);

  BlobTransfer& transfer_;
  grpc::CallbackServerContext* const context_;
  RpcRecord record_;
  StreamEnd end_;
  std::shared_ptr<ReadBlobReactor> self_;
  std::shared_ptr<PeriodicAlarm> alarm_;
  DrainGate::Pass pass_;
  grpc::ByteBuffer write_buffer_;
  // The worker's task owns these; there is one such task at most.
  Digest digest_;
  std::optional<BlobReader> reader_;
  std::optional<Sha256> sha256_;  // A whole has it.

  absl::Mutex mu_;
  std::optional<absl::Time> writing_since_
      ABSL_GUARDED_BY(mu_);  // It is set while a write is under way.
  // It was ready before the write under way was done. While it is not there a worker makes it.
  std::optional<absl::StatusOr<std::optional<Message>>> prepared_ ABSL_GUARDED_BY(mu_);
  absl::Status broken_ ABSL_GUARDED_BY(mu_);       // It tells that worker of a write that failed.
  bool not_reading_ ABSL_GUARDED_BY(mu_) = false;  // The stream was reset.
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAMS_READ_BLOB_REACTOR_H_
