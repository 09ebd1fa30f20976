// WatchJob on the wire: one event is written, then the next; nothing is kept for a slow reader.
#ifndef SALIENT_SERVER_RPC_STREAMS_WATCH_JOB_REACTOR_H_
#define SALIENT_SERVER_RPC_STREAMS_WATCH_JOB_REACTOR_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/jobs/job_table.h"
#include "server/observe/metrics.h"
#include "server/rpc/streams/periodic_alarm.h"
#include "server/rpc/unary/rpc_record.h"
#include "server/workers/bounded_lane.h"
#include "server/workers/stream_end.h"

namespace salient {

// Events stay in the table until they can be written, so a reader that is slow, or reads nothing,
// costs one message. Whoever finds something to write writes it: the thread that woke the watch, or
// the one that ended the last write. Owns itself until OnDone.
class WatchJobReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                              public std::enable_shared_from_this<WatchJobReactor> {
 public:
  // Parses the request on `lane`. A heartbeat is sent when nothing was for `heartbeat`.
  static WatchJobReactor* Start(JobTable& jobs, BoundedLane& lane, Metrics::Rpc& rpc,
                                absl::Duration heartbeat, grpc::CallbackServerContext* context,
                                const grpc::ByteBuffer* request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  WatchJobReactor(Metrics::Rpc& rpc, absl::Duration heartbeat, const std::string& peer);

  void Open(JobTable& jobs, const grpc::ByteBuffer& request);
  absl::Status Begin(JobTable& jobs, const grpc::ByteBuffer& request);
  // Looks at the clock.
  void Look();
  void Send();
  bool FillNext();
  void Write();
  void End(const absl::Status& status);

  const absl::Duration heartbeat_;
  RpcRecord record_;
  StreamEnd end_;
  std::shared_ptr<WatchJobReactor> self_;
  std::shared_ptr<PeriodicAlarm> alarm_;
  std::unique_ptr<JobWatch> watch_;  // The thread that is sending uses it; there is one at most.
  grpc::ByteBuffer response_;        // That thread uses it, too.
  int64_t revision_ = 0;             // That thread uses it, too: it is that of the last event.

  absl::Mutex mu_;
  absl::Time sent_at_ ABSL_GUARDED_BY(mu_) = absl::Now();
  bool ready_ ABSL_GUARDED_BY(mu_) = false;    // There may be something to take.
  bool sending_ ABSL_GUARDED_BY(mu_) = false;  // A thread is looking for something to write.
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  StreamEnd::Operation write_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAMS_WATCH_JOB_REACTOR_H_
