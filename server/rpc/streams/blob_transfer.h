// Holds what the rpcs of BlobService share.
#ifndef SALIENT_SERVER_RPC_STREAMS_BLOB_TRANSFER_H_
#define SALIENT_SERVER_RPC_STREAMS_BLOB_TRANSFER_H_

#include "absl/time/time.h"
#include "server/jobs/job_table.h"
#include "server/observe/metrics.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/rpc/unary/rpc_lanes.h"
#include "server/store/blob_store.h"
#include "server/workers/worker_pool.h"

namespace salient {

// Borrowed; outlives every call.
struct BlobTransfer {
  BlobStore& store;
  WorkerPool& pool;
  RpcLanes& lanes;
  JobTable& jobs;  // It is told what changes.
  Metrics& metrics;
  DrainGate& gate;
  // A stream whose client sends nothing, or reads nothing, for so long is ended.
  absl::Duration idle_timeout = absl::Seconds(60);
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAMS_BLOB_TRANSFER_H_
