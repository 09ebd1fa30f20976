#include "server/observe/stats_collector.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_type.h>

#include <string>
#include <utility>

#include "core/parallel/executor.h"
#include "server/observe/process_stats.h"
#include "server/workers/stage_clock.h"

namespace salient {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct Sample {
  double value;
  std::vector<ClientMetric::Label> labels;
};

MetricFamily Family(MetricType type, std::string name, std::string help,
                    const std::vector<Sample>& samples) {
  MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = type;
  for (const Sample& sample : samples) {
    ClientMetric metric;
    metric.label = sample.labels;
    if (type == MetricType::Counter) {
      metric.counter.value = sample.value;
    } else {
      metric.gauge.value = sample.value;
    }
    family.metric.push_back(std::move(metric));
  }
  return family;
}

MetricFamily CounterFamily(std::string name, std::string help, double value) {
  return Family(MetricType::Counter, std::move(name), std::move(help), {{value, {}}});
}

MetricFamily GaugeFamily(std::string name, std::string help, double value) {
  return Family(MetricType::Gauge, std::move(name), std::move(help), {{value, {}}});
}

void AddProcess(std::vector<MetricFamily>& families) {
  const ProcessStats stats = ReadProcessStats();
  families.push_back(CounterFamily("process_cpu_seconds_total",
                                   "User and system CPU time of the process.", stats.cpu_seconds));
  families.push_back(GaugeFamily("process_resident_memory_bytes", "Resident memory of the process.",
                                 stats.resident_memory_bytes));
  families.push_back(GaugeFamily("process_virtual_memory_bytes", "Virtual memory of the process.",
                                 stats.virtual_memory_bytes));
  families.push_back(
      GaugeFamily("process_open_fds", "Open file descriptors of the process.", stats.open_fds));
  families.push_back(
      GaugeFamily("process_max_fds", "Most file descriptors the process may open.", stats.max_fds));
  families.push_back(GaugeFamily("process_start_time_seconds",
                                 "Start of the process, in seconds since the Unix epoch.",
                                 stats.start_time_seconds));
}

void AddCalls(const CallRegistry::Stats& stats, std::vector<MetricFamily>& families) {
  families.push_back(GaugeFamily("salient_active_calls", "QuantizeTensors calls that are active.",
                                 static_cast<double>(stats.active_calls)));
  families.push_back(CounterFamily("salient_groups_total", "Groups of Linears quantized.",
                                   static_cast<double>(stats.groups_quantized)));
  families.push_back(CounterFamily("salient_parameters_total", "Weights quantized.",
                                   static_cast<double>(stats.parameters_quantized)));
  families.push_back(CounterFamily("salient_tokens_total",
                                   "Calibration tokens folded into statistics, one count a group.",
                                   static_cast<double>(stats.tokens_folded)));
  families.push_back(GaugeFamily("salient_memory_reserved_bytes",
                                 "Memory reserved by active calls: weights, statistics, results.",
                                 static_cast<double>(stats.memory_reserved_bytes)));
  families.push_back(GaugeFamily("salient_memory_limit_bytes",
                                 "Memory that all calls together may reserve.",
                                 static_cast<double>(stats.memory_limit_bytes)));
}

std::vector<Sample> ByStage(const StageSeconds& seconds) {
  std::vector<Sample> samples;
  for (size_t i = 0; i < kStages; ++i) {
    samples.push_back({seconds[i], {{"stage", std::string(Name(static_cast<Stage>(i)))}}});
  }
  return samples;
}

void AddPool(const WorkerPool::Stats& stats, std::vector<MetricFamily>& families) {
  families.push_back(GaugeFamily("salient_workers", "Threads that compute.",
                                 static_cast<double>(stats.busy_seconds.size())));
  std::vector<Sample> busy;
  for (size_t i = 0; i < stats.busy_seconds.size(); ++i) {
    busy.push_back({stats.busy_seconds[i], {{"worker", std::to_string(i)}}});
  }
  families.push_back(Family(MetricType::Counter, "salient_worker_busy_seconds_total",
                            "Time a worker spent working.", busy));
  families.push_back(Family(MetricType::Counter, "salient_stage_busy_seconds_total",
                            "Time all workers spent working, by what for.",
                            ByStage(stats.stage_busy_seconds)));
  families.push_back(Family(MetricType::Counter, "salient_stage_wall_seconds_total",
                            "Time that passed in jobs, by what for.",
                            ByStage(stats.stage_wall_seconds)));
}

using NamedLanes = std::vector<std::pair<std::string, const BoundedLane*>>;

void AddQueues(const WorkerPool::Stats& pool, const NamedLanes& lanes,
               std::vector<MetricFamily>& families) {
  std::vector<Sample> samples = {{static_cast<double>(pool.queued_short), {{"lane", "short"}}},
                                 {static_cast<double>(pool.queued_long), {{"lane", "long"}}}};
  for (const auto& [name, lane] : lanes) {
    samples.push_back({static_cast<double>(lane->waiting()), {{"lane", name}}});
  }
  families.push_back(Family(MetricType::Gauge, "salient_queued_tasks",
                            "Tasks that wait: for a worker messages (short) and groups (long), "
                            "beside the workers CreateJob (judging), other unary calls (control) "
                            "and uploads that an earlier process began (hashing).",
                            samples));
}

void AddStore(const BlobStore& store, std::vector<MetricFamily>& families) {
  const BlobStoreUsage usage = store.Usage();
  families.push_back(GaugeFamily("salient_store_used_bytes",
                                 "Bytes of blobs, and of uploads at their announced size.",
                                 static_cast<double>(usage.used_bytes)));
  families.push_back(GaugeFamily("salient_store_capacity_bytes", "Bytes that the store may use.",
                                 static_cast<double>(store.limits().capacity_bytes)));
  families.push_back(
      GaugeFamily("salient_store_blobs", "Blobs that are held.", static_cast<double>(usage.blobs)));
  families.push_back(GaugeFamily("salient_store_uploads", "Uploads begun and not finished.",
                                 static_cast<double>(usage.uploads)));
}

void AddJobs(const JobTable::Stats& stats, std::vector<MetricFamily>& families) {
  const auto sample = [](int64_t value, const char* label, const char* name) {
    return Sample{static_cast<double>(value), {{label, name}}};
  };
  families.push_back(
      Family(MetricType::Gauge, "salient_jobs", "Jobs that have not ended.",
             {sample(stats.queued, "state", "queued"), sample(stats.running, "state", "running")}));
  families.push_back(Family(MetricType::Counter, "salient_jobs_ended_total", "Jobs that ended.",
                            {sample(stats.succeeded_total, "outcome", "succeeded"),
                             sample(stats.failed_total, "outcome", "failed"),
                             sample(stats.cancelled_total, "outcome", "cancelled")}));
  families.push_back(
      CounterFamily("salient_job_tokens_total",
                    "Tokens run through a decoder block, one count a block, in all jobs.",
                    static_cast<double>(stats.tokens_total)));
  families.push_back(CounterFamily("salient_job_parameters_total", "Weights quantized by jobs.",
                                   static_cast<double>(stats.parameters_total)));
  families.push_back(GaugeFamily("salient_job_progress_ratio",
                                 "How far the job that began first is, 0 to 1; 0: none runs.",
                                 stats.running_progress));
}

void AddHouse(const HouseStats& stats, std::vector<MetricFamily>& families) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  families.push_back(
      GaugeFamily("salient_connections", "Connections that are open.", number(stats.connections)));
  families.push_back(GaugeFamily("salient_connections_limit",
                                 "Connections that may be open at a time.",
                                 number(stats.max_connections)));
  families.push_back(
      Family(MetricType::Counter, "salient_connections_refused_total",
             "Connections closed unheard: too many were open, or there was no descriptor.",
             {{number(stats.connections_refused_by_limit_total), {{"reason", "limit"}}},
              {number(stats.connections_refused_by_system_total), {{"reason", "descriptors"}}}}));
  families.push_back(CounterFamily("salient_self_checks_failed_total",
                                   "Connections of the server to itself that were not answered.",
                                   number(stats.failed_self_checks_total)));
  families.push_back(GaugeFamily("salient_store_writable",
                                 "1 while the store can be written, else 0.",
                                 stats.store_writable ? 1 : 0));
}

}  // namespace

void StatsCollector::Watch(std::function<HouseStats()> house) {
  const MutexLock lock(mu_);
  house_ = std::move(house);
}

std::vector<MetricFamily> StatsCollector::Collect() const {
  std::vector<MetricFamily> families;
  AddProcess(families);
  if (const CallRegistry* registry = registry_.load(); registry != nullptr) {
    const CallRegistry::Stats stats = registry->GetStats();
    AddCalls(stats, families);
    AddPool(stats.pool, families);
    AddQueues(stats.pool, lanes_, families);
  }
  if (const BlobStore* store = store_.load(); store != nullptr) AddStore(*store, families);
  if (const JobTable* jobs = jobs_.load(); jobs != nullptr) AddJobs(jobs->GetStats(), families);
  const MutexLock lock(mu_);
  if (house_ != nullptr) AddHouse(house_(), families);
  return families;
}

}  // namespace salient
