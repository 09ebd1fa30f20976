// Reads the engine, the store and the process at scrape time: nothing that computes knows of
// metrics.
#ifndef SALIENT_SERVER_OBSERVE_STATS_COLLECTOR_H_
#define SALIENT_SERVER_OBSERVE_STATS_COLLECTOR_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/parallel/mutex.h"
#include "server/calls/call_registry.h"
#include "server/jobs/job_table.h"
#include "server/observe/metrics.h"
#include "server/store/blob_store.h"
#include "server/workers/bounded_lane.h"

namespace salient {

// Is thread-safe.
class StatsCollector final : public prometheus::Collectable {
 public:
  // Watches each of these, which outlives this object.
  void Watch(const CallRegistry& registry) { registry_.store(&registry); }
  void Watch(const BlobStore& store) { store_.store(&store); }
  void Watch(const JobTable& jobs) { jobs_.store(&jobs); }
  // Adds a lane; it must be called before anything is collected.
  void Watch(absl::string_view name, const BoundedLane& lane) {
    lanes_.emplace_back(std::string(name), &lane);
  }

  void Watch(std::function<HouseStats()> house);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::atomic<const CallRegistry*> registry_{nullptr};
  std::atomic<const BlobStore*> store_{nullptr};
  std::atomic<const JobTable*> jobs_{nullptr};
  std::vector<std::pair<std::string, const BoundedLane*>> lanes_;
  mutable Mutex mu_;
  std::function<HouseStats()> house_ ABSL_GUARDED_BY(mu_);  // The lock is held while it is called.
};

}  // namespace salient

#endif  // SALIENT_SERVER_OBSERVE_STATS_COLLECTOR_H_
