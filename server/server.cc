#include "server/server.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "server/calls/call_registry.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "server/listen/connection_acceptor.h"
#include "server/listen/self_check.h"
#include "server/observe/job_lines.h"
#include "server/observe/logs.h"
#include "server/observe/metrics.h"
#include "server/process/periodic_task.h"
#include "server/process/scratch_directory.h"
#include "server/rpc/blob_service.h"
#include "server/rpc/endpoint.h"
#include "server/rpc/quantization_service.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/rpc/unary/rpc_lanes.h"
#include "server/store/blob_store.h"
#include "server/version.h"
#include "server/watchdog.h"

namespace salient {
namespace {

// gRPC may take this long to wind up calls that were told to end.
constexpr absl::Duration kWindUp = absl::Seconds(2);
// Uploads that nobody continued, and jobs that ended, are looked for this often.
constexpr absl::Duration kExpiryPeriod = absl::Minutes(1);
constexpr absl::Duration kJobLogPeriod = absl::Seconds(1);
// The watchdog looks this often, and a connection to this server may take so long to be answered.
constexpr absl::Duration kWatchdogPeriod = absl::Seconds(5);
constexpr absl::Duration kAnswerTimeout = absl::Seconds(5);
// A blob's stream that makes no progress for so long is ended, or sooner if --idle-seconds says.
constexpr absl::Duration kLongestBlobIdle = absl::Seconds(60);
// Health answers to this name whether new calls are taken, beside "" and each service's name.
constexpr char kReadiness[] = "readiness";

CallRegistry::Settings SettingsOf(const ServerConfig& config) {
  CallRegistry::Settings settings;
  settings.workers = config.workers;
  settings.max_active_calls = config.max_active_calls;
  settings.memory_bytes = config.memory_bytes;
  settings.call.call_memory_bytes = config.call_memory_bytes;
  settings.call.idle_timeout = config.idle_timeout;
  settings.call.not_reading_timeout = config.not_reading_timeout;
  settings.call.memory_wait = config.memory_wait;
  return settings;
}

// Says where blobs are, and what must outlive it.
struct Storage {
  std::optional<ScratchDirectory> scratch;
  std::string directory;
  std::unique_ptr<BlobStore> store;
};

absl::StatusOr<Storage> OpenStorage(const ServerConfig& config) {
  Storage storage;
  storage.directory = config.store_directory;
  if (storage.directory.empty()) {
    absl::StatusOr<ScratchDirectory> scratch = ScratchDirectory::Make();
    if (!scratch.ok()) return scratch.status();
    storage.scratch = *std::move(scratch);
    // The store lies inside, because the directory itself is locked: a store locks its own.
    storage.directory = absl::StrCat(storage.scratch->path(), "/store");
  }
  BlobStoreLimits limits;
  limits.capacity_bytes = config.store_bytes;
  auto store = BlobStore::Open(storage.directory, limits);
  if (!store.ok()) return store.status();
  storage.store = *std::move(store);
  for (const std::string& remark : storage.store->recovery().remarks) {
    LogWarning(absl::StrCat("store: ", remark));
  }
  return storage;
}

void ExpireUploads(BlobStore& store) {
  const absl::StatusOr<int64_t> expired = store.ExpireUploads(absl::Now());
  if (!expired.ok()) {
    LogWarning(absl::StrCat("store: cannot expire uploads: ", expired.status().ToString()));
  } else if (*expired > 0) {
    LogInfo(absl::StrCat("store: uploads expired: ", *expired));
  }
}

std::string WorkDirectory(const Storage& storage) {
  return absl::StrCat(storage.directory, "/work");
}

JobTableSettings JobSettingsOf(const ServerConfig& config, const Storage& storage) {
  JobTableSettings settings;
  settings.work_directory = WorkDirectory(storage);
  settings.model_root = config.model_root;
  settings.output_root = config.output_root;
  settings.max_running_jobs = config.max_running_jobs;
  settings.memory_bytes = config.memory_bytes;
  settings.ttl_after_finished = config.job_ttl;
  return settings;
}

}  // namespace

class Server::Impl {
 public:
  // The parts that can fail were made before: the store, and the jobs that use it and the
  // registry's workers.
  Impl(ServerConfig config, Storage storage, std::unique_ptr<CallRegistry> registry,
       std::unique_ptr<JobTable> jobs)
      : config_(std::move(config)),
        storage_(std::move(storage)),
        registry_(std::move(registry)),
        jobs_(std::move(jobs)),
        job_lines_(*jobs_),
        metrics_(kVersion),
        quantization_(*registry_, *jobs_, job_lines_, lanes_, metrics_, kVersion),
        blobs_({*storage_.store, registry_->pool(), lanes_, *jobs_, metrics_, gate_,
                std::min(config_.idle_timeout, kLongestBlobIdle)}),
        expiry_(kExpiryPeriod, [this] { ExpireUploads(*storage_.store); }),
        job_log_(kJobLogPeriod, [this] { job_lines_.Look(); }) {
    metrics_.Watch(*registry_);
    metrics_.Watch(*storage_.store);
    metrics_.Watch(*jobs_);
    metrics_.Watch("control", lanes_.control);
    metrics_.Watch("judging", lanes_.judging);
    metrics_.Watch("hashing", lanes_.hashing);
    jobs_->ObserveGroups([this](const TimedGroupReport& group) {
      const GroupReport& report = group.report;
      metrics_.GroupDone({report.parameters, group.elapsed, report.loss_rtn, report.loss,
                          report.relative_output_error, report.fold_error});
    });
  }

  ~Impl() {
    Shutdown(absl::ZeroDuration());
    metrics_.Watch(nullptr);
    jobs_->ObserveGroups(nullptr);
  }

  // `unreachable` is called when new connections are no longer answered.
  absl::Status Serve(absl::AnyInvocable<void()> unreachable) {
    if (!config_.metrics_listen.empty()) {
      absl::StatusOr<int> port = metrics_.Listen(config_.metrics_listen);
      if (!port.ok()) return port.status();
      metrics_port_ = *port;
    }
    absl::StatusOr<std::unique_ptr<Endpoint>> endpoint =
        Endpoint::Start(config_, {&quantization_, &blobs_});
    if (!endpoint.ok()) return endpoint.status();
    endpoint_ = *std::move(endpoint);
    TellHealth({});
    watchdog_ = std::make_unique<Watchdog>(
        Watchdog::Checks{
            [this] { return CheckWritable(WorkDirectory(storage_)); },
            [this] { return CheckAnswered(endpoint_->local_address(), kAnswerTimeout); }},
        [this](Watchdog::Condition condition) { TellHealth(condition); }, std::move(unreachable));
    metrics_.Watch([this] { return GetHouseStats(); });
    watching_ = std::make_unique<PeriodicTask>(kWatchdogPeriod, [this] {
      watchdog_->Look();
      LogRefusedConnections();
    });
    return absl::OkStatus();
  }

  void Shutdown(absl::Duration grace) {
    std::call_once(shutdown_, [this, grace] { ShutdownOnce(grace); });
  }

  int port() const { return endpoint_->port(); }
  int metrics_port() const { return metrics_port_; }
  const ServerConfig& config() const { return config_; }

 private:
  void ShutdownOnce(absl::Duration grace) {
    const absl::Time end = absl::Now() + grace;
    registry_->Drain();
    jobs_->Drain();
    gate_.Drain();
    if (endpoint_ == nullptr) return;
    endpoint_->StopServing();
    watching_ = nullptr;  // It may be waiting for an answer, for which there is time now.
    const auto rest = [end] { return std::max(end - absl::Now(), absl::ZeroDuration()); };
    if (!registry_->WaitUntilIdle(rest())) {
      LogWarning("calls are still active at the end of the grace; ending them");
      registry_->EndAll();
    }
    if (!jobs_->WaitUntilIdle(rest())) {
      LogWarning("jobs are still running at the end of the grace; ending them");
    }
    jobs_->EndAll();
    job_lines_.Look();
    if (!gate_.WaitUntilEmpty(rest())) {
      LogWarning("blobs are still being sent at the end of the grace; uploads can be continued");
    }
    endpoint_->Shutdown(kWindUp);
  }

  // Uploads and jobs need the store. The process as a whole does not: no restart makes it writable.
  void TellHealth(Watchdog::Condition condition) {
    const bool takes_calls = condition.reachable && condition.store_writable;
    endpoint_->SetServing("", condition.reachable);
    endpoint_->SetServing(v1::QuantizationService::service_full_name(), condition.reachable);
    endpoint_->SetServing(v1::BlobService::service_full_name(), takes_calls);
    endpoint_->SetServing(kReadiness, takes_calls);
  }

  HouseStats GetHouseStats() const {
    const ConnectionAcceptor::Stats connections = endpoint_->connections();
    const Watchdog::Stats watchdog = watchdog_->GetStats();
    HouseStats stats;
    stats.connections = connections.open;
    stats.max_connections = config_.max_connections;
    stats.connections_refused_by_limit_total = connections.refused_by_limit_total;
    stats.connections_refused_by_system_total = connections.refused_by_system_total;
    stats.failed_self_checks_total = watchdog.failed_self_checks_total;
    stats.store_writable = watchdog.condition.store_writable;
    return stats;
  }

  void LogRefusedConnections() {
    const ConnectionAcceptor::Stats now = endpoint_->connections();
    const int64_t refused = now.refused_by_limit_total + now.refused_by_system_total;
    if (refused > refused_connections_) {
      LogWarning(absl::StrCat(
          "connections refused: ", refused - refused_connections_, "; ", now.open,
          " are open, at most ", config_.max_connections,
          " may be; refused for want of descriptors so far: ", now.refused_by_system_total));
    }
    refused_connections_ = refused;
  }

  // Each outlives those below it, which borrow it.
  const ServerConfig config_;
  const Storage storage_;
  const std::unique_ptr<CallRegistry> registry_;
  const std::unique_ptr<JobTable> jobs_;
  JobLines job_lines_;
  RpcLanes lanes_;
  Metrics metrics_;
  DrainGate gate_;
  QuantizationService quantization_;
  BlobService blobs_;
  PeriodicTask expiry_;
  PeriodicTask job_log_;
  std::unique_ptr<Endpoint> endpoint_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<PeriodicTask> watching_;
  int64_t refused_connections_ = 0;  // The watching thread counts those that were logged.
  std::once_flag shutdown_;
  int metrics_port_ = 0;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerConfig& config,
                                                      absl::AnyInvocable<void()> unreachable) {
  if (absl::Status status = CheckConfig(config); !status.ok()) return status;
  // Before anything is computed.
  if (absl::Status status = ApplyInstructionSet(config); !status.ok()) return status;
  absl::StatusOr<Storage> storage = OpenStorage(config);
  if (!storage.ok()) return storage.status();
  ServerConfig full = WithDefaults(config);
  auto registry = std::make_unique<CallRegistry>(SettingsOf(full));
  auto jobs = JobTable::Create(JobSettingsOf(full, *storage), *storage->store, registry->pool());
  if (!jobs.ok()) return jobs.status();
  auto impl = std::make_unique<Impl>(std::move(full), *std::move(storage), std::move(registry),
                                     *std::move(jobs));
  if (absl::Status status = impl->Serve(std::move(unreachable)); !status.ok()) return status;
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;
int Server::port() const { return impl_->port(); }
int Server::metrics_port() const { return impl_->metrics_port(); }
const ServerConfig& Server::config() const { return impl_->config(); }
void Server::Shutdown(absl::Duration grace) { impl_->Shutdown(grace); }

}  // namespace salient
