// Holds the lanes beside the workers: where unary calls are worked on, so that neither messages nor
// each other hold them up, and where long work for a stream holds up no other stream.
#ifndef SALIENT_SERVER_RPC_UNARY_RPC_LANES_H_
#define SALIENT_SERVER_RPC_UNARY_RPC_LANES_H_

#include <cstdint>

#include "server/workers/bounded_lane.h"

namespace salient {

struct RpcLanes {
  // This takes calls of short locks only: they ask for jobs and blobs, and cancel.
  BoundedLane control{"salient-control", {.tasks = 1000, .bytes = int64_t{16} << 20}};
  // This takes CreateJob, which may parse 100 MB of JSON.
  BoundedLane judging{"salient-judging", {.tasks = 100, .bytes = int64_t{64} << 20}};
  // This hashes what an earlier process received of uploads, some of each in turn.
  BoundedLane hashing{"salient-hashing", {.tasks = 1000}};
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_UNARY_RPC_LANES_H_
