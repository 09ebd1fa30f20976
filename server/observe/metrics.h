// Declares every metric family of the server, its labels and its buckets. Nothing the client says
// becomes a label.
#ifndef SALIENT_SERVER_OBSERVE_METRICS_H_
#define SALIENT_SERVER_OBSERVE_METRICS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/calls/call_registry.h"
#include "server/error/call_error.h"
#include "server/jobs/job_table.h"
#include "server/store/blob_store.h"
#include "server/workers/bounded_lane.h"

namespace salient {

enum class RpcType { kUnary, kClientStream, kServerStream, kBidiStream };

// Names one method, as labels.
struct RpcName {
  absl::string_view service;  // It is e.g. "salient.v1.QuantizationService".
  absl::string_view method;   // It is e.g. "QuantizeTensors".
  RpcType type = RpcType::kUnary;
};

// Tells the outcome of one group.
struct GroupOutcome {
  int64_t parameters = 0;
  absl::Duration elapsed;
  double loss_rtn = 0;
  double loss = 0;
  double relative_output_error = 0;
  std::optional<double> fold_error;  // It is that of GroupReport.
};

// These are the figures that the server knows of itself.
struct HouseStats {
  int64_t connections = 0;  // So many are open.
  int64_t max_connections = 0;
  int64_t connections_refused_by_limit_total = 0;
  int64_t connections_refused_by_system_total = 0;  // There was no descriptor for them.
  int64_t failed_self_checks_total = 0;  // They were connections to itself without an answer.
  bool store_writable = true;
};

// Is thread-safe. All series exist from the start, so that rates see the first event.
class Metrics {
 public:
  // Counts the calls of one method.
  class Rpc {
   public:
    virtual ~Rpc() = default;
    virtual void Started() = 0;
    virtual void Received(size_t bytes) = 0;
    virtual void Sent(size_t bytes) = 0;
    // Counts the end of a call. A status that is not OK is counted by its reason.
    virtual void Handled(const absl::Status& status, absl::Duration elapsed) = 0;
  };

  explicit Metrics(absl::string_view version);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Declares a method; at start-up, before it is served. This object owns the result.
  Rpc& AddRpc(const RpcName& name);

  void GroupDone(const GroupOutcome& outcome);

  // Bytes of blobs received by WriteBlob and sent by ReadBlob.
  void BlobBytesWritten(int64_t bytes);
  void BlobBytesRead(int64_t bytes);

  // Takes the work of each, which outlives this object, into every scrape.
  void Watch(const CallRegistry& registry);
  void Watch(const BlobStore& store);
  void Watch(const JobTable& jobs);
  // Watches a lane; it is called before Listen.
  void Watch(absl::string_view name, const BoundedLane& lane);
  // Watches what `get` returns, until another one is given; null ends it.
  void Watch(std::function<HouseStats()> get);

  // Serves http://`address`/metrics; port 0 chooses one. Returns the port. Returns INVALID_ARGUMENT
  // if the address cannot be listened on.
  absl::StatusOr<int> Listen(const std::string& address);

  // Returns what a scrape returns, in the Prometheus text format.
  std::string Text() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_OBSERVE_METRICS_H_
