// Holds what every rpc shares: where it is counted and logged.
#ifndef SALIENT_SERVER_RPC_UNARY_RPC_RECORD_H_
#define SALIENT_SERVER_RPC_UNARY_RPC_RECORD_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/calls/tensor_call.h"
#include "server/observe/logs.h"
#include "server/observe/metrics.h"

namespace salient {

// Follows one running rpc from its start to its status. It is created when the rpc arrives and
// ended once. It is thread-safe.
class RpcRecord {
 public:
  RpcRecord(Metrics::Rpc& metrics, std::string method, std::string peer)
      : metrics_(metrics), method_(std::move(method)), peer_(std::move(peer)) {
    metrics_.Started();
  }

  void Received(size_t bytes) {
    bytes_in_.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
    metrics_.Received(bytes);
  }
  void Sent(size_t bytes) {
    bytes_out_.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
    metrics_.Sent(bytes);
  }

  // `summary` is of a QuantizeTensors call, else empty.
  void End(const absl::Status& status, const CallSummary& summary = {}) {
    const absl::Duration elapsed = absl::Now() - start_;
    metrics_.Handled(status, elapsed);
    LogCall({method_, peer_, status, elapsed, bytes_in_, bytes_out_, summary});
  }

 private:
  Metrics::Rpc& metrics_;
  const std::string method_;
  const std::string peer_;
  const absl::Time start_ = absl::Now();
  std::atomic<int64_t> bytes_in_{0};
  std::atomic<int64_t> bytes_out_{0};
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_UNARY_RPC_RECORD_H_
