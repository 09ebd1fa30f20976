// Serves WriteBlob: while a worker takes one message, the next is read.
#ifndef SALIENT_SERVER_RPC_STREAMS_WRITE_BLOB_REACTOR_H_
#define SALIENT_SERVER_RPC_STREAMS_WRITE_BLOB_REACTOR_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "salient/v1/blob_service.pb.h"
#include "server/calls/call_messages.h"
#include "server/observe/metrics.h"
#include "server/rpc/convert/blob.h"
#include "server/rpc/streams/blob_transfer.h"
#include "server/rpc/streams/periodic_alarm.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/rpc/unary/rpc_record.h"
#include "server/store/digest.h"
#include "server/store/upload.h"
#include "server/workers/stream_end.h"

namespace salient {

// Parsing, checksums and the disk are the workers'; threads of gRPC hand bytes over. Gigabytes that
// an earlier process received are hashed in a lane of their own. What was committed stays, however
// the stream ends. Owns itself until OnDone.
class WriteBlobReactor final : public grpc::ServerReadReactor<grpc::ByteBuffer>,
                               public std::enable_shared_from_this<WriteBlobReactor> {
 public:
  static WriteBlobReactor* Start(BlobTransfer& transfer, Metrics::Rpc& rpc,
                                 grpc::CallbackServerContext* context, grpc::ByteBuffer* response);

  void OnReadDone(bool ok) override;
  void OnDone() override;

 private:
  // Says what a message led to: go on, or the response.
  using Step = absl::StatusOr<std::optional<v1::WriteBlobResponse>>;

  WriteBlobReactor(BlobTransfer& transfer, Metrics::Rpc& rpc, grpc::CallbackServerContext* context,
                   grpc::ByteBuffer* response);

  void Open();
  // Looks at the clock.
  void Look();

  // All but one of these run on a worker, and one at a time.
  void Take(const grpc::ByteBuffer& message);
  Step Parsed(grpc::ByteBuffer message);
  Step Begin(const Digest& digest);
  // Returns nullopt if the upload is open.
  Step OpenAt(int64_t offset_bytes);
  Step Append(const ChunkData& chunk);
  Step Complete();
  Step Finished(absl::Status hashed);
  // Returns what this writer committed, or others before it wrote anything.
  int64_t Committed() const;
  void TakeNext();
  // Runs in the lane for it.
  void HashMore();
  void EndOfInput();
  void Fail(absl::Status status);
  void Answer(const v1::WriteBlobResponse& response);

  void End(const absl::Status& status);

  BlobTransfer& transfer_;
  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer* const response_;
  RpcRecord record_;
  StreamEnd end_;
  std::shared_ptr<WriteBlobReactor> self_;
  std::shared_ptr<PeriodicAlarm> alarm_;
  DrainGate::Pass pass_;
  grpc::ByteBuffer read_buffer_;
  // The task under way, one at most, owns these. An upload is begun with its first byte.
  std::optional<Digest> digest_;
  std::optional<Upload> upload_;
  bool is_hashing_ = false;  // nothing else is taken any more

  absl::Mutex mu_;
  // While a worker takes one message the next is read, and waits here if it comes; no more than
  // that one, which is what holds the client back.
  bool taking_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<grpc::ByteBuffer> next_ ABSL_GUARDED_BY(mu_);
  bool input_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool listening_ ABSL_GUARDED_BY(mu_) = true;  // It holds until there is a status.
  // It is set while nothing is being taken: the client is waited for.
  std::optional<absl::Time> waiting_since_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAMS_WRITE_BLOB_REACTOR_H_
