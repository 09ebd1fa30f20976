// Reads the engine and the process at scrape time: nothing that computes knows of metrics.
#ifndef SALIENT_SERVER_OBSERVE_STATS_COLLECTOR_H_
#define SALIENT_SERVER_OBSERVE_STATS_COLLECTOR_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <atomic>
#include <vector>

#include "server/jobs/call_registry.h"

namespace salient {

// Thread-safe.
class StatsCollector final : public prometheus::Collectable {
 public:
  // Borrows; the registry outlives this object.
  void Watch(const CallRegistry& registry) { registry_.store(&registry); }

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::atomic<const CallRegistry*> registry_{nullptr};
};

}  // namespace salient

#endif  // SALIENT_SERVER_OBSERVE_STATS_COLLECTOR_H_
