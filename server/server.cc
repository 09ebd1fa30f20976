#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.pb.h"
#include "proto/wire/chunk.h"
#include "server/calls/call_registry.h"
#include "server/jobs/job_table.h"
#include "server/observe/job_lines.h"
#include "server/observe/logs.h"
#include "server/observe/metrics.h"
#include "server/periodic_task.h"
#include "server/rpc/blob_service.h"
#include "server/rpc/drain_gate.h"
#include "server/rpc/quantization_service.h"
#include "server/scratch_directory.h"
#include "server/store/blob_store.h"
#include "server/version.h"

namespace salient {
namespace {

// How long gRPC may take to wind up calls that were told to end.
constexpr absl::Duration kWindUp = absl::Seconds(2);
// How often uploads that nobody continued, and jobs that ended, are looked for.
constexpr absl::Duration kExpiryPeriod = absl::Minutes(1);
constexpr absl::Duration kJobLogPeriod = absl::Seconds(1);
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

// Where blobs are, and what must outlive it.
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
    storage.directory = storage.scratch->path();
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

JobTableSettings JobSettingsOf(const ServerConfig& config, const Storage& storage) {
  JobTableSettings settings;
  settings.work_directory = absl::StrCat(storage.directory, "/work");
  settings.model_root = config.model_root;
  settings.output_root = config.output_root;
  settings.max_running_jobs = config.max_running_jobs;
  settings.memory_bytes = config.memory_bytes;
  settings.ttl_after_finished = config.job_ttl;
  return settings;
}

// gRPC's own plug-ins add themselves to every server of the process; this takes one out.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    const auto is_reflection = [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
      return dynamic_cast<grpc::reflection::ProtoServerReflectionPlugin*>(plugin.get()) != nullptr;
    };
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(), is_reflection), plugins->end());
  }
};

// Both switches are of the process, and must be set before the first builder is made.
void RegisterPlugins() {
  static std::once_flag once;
  std::call_once(once, [] { grpc::reflection::InitProtoReflectionServerBuilderPlugin(); });
}

void SetArguments(const ServerConfig& config, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.SetMaxSendMessageSize(static_cast<int>(kMaxMessageBytes));
  // Weights do not compress, and a small message must not become a large one here.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 100);  // of a connection
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8 * 1024);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  // A peer that vanished is noticed within 40 s; clients may ping as often.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2);
  // Two servers on one port would share its connections at random.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // What the transport holds for all connections; beyond it, it reads more slowly.
  grpc::ResourceQuota quota("salientd");
  quota.Resize(static_cast<size_t>(
      std::clamp<int64_t>(config.memory_bytes / 8, int64_t{64} << 20, int64_t{512} << 20)));
  builder.SetResourceQuota(quota);
}

}  // namespace

class Server::Impl {
 public:
  // What can fail was made before: the store, and the jobs that use it and the registry's workers.
  Impl(ServerConfig config, Storage storage, std::unique_ptr<CallRegistry> registry,
       std::unique_ptr<JobTable> jobs)
      : config_(std::move(config)),
        storage_(std::move(storage)),
        registry_(std::move(registry)),
        jobs_(std::move(jobs)),
        job_lines_(*jobs_),
        metrics_(kVersion),
        quantization_(*registry_, *jobs_, job_lines_, metrics_, kVersion),
        blobs_({*storage_.store, registry_->pool(), *jobs_, metrics_, gate_,
                std::min(config_.idle_timeout, kLongestBlobIdle)}),
        expiry_(kExpiryPeriod, [this] { ExpireUploads(*storage_.store); }),
        job_log_(kJobLogPeriod, [this] { job_lines_.Look(); }) {
    metrics_.Watch(*registry_);
    metrics_.Watch(*storage_.store);
    metrics_.Watch(*jobs_);
    jobs_->ObserveGroups([this](const TimedGroupReport& group) {
      const GroupReport& report = group.report;
      metrics_.GroupDone({report.parameters, group.elapsed, report.loss_rtn, report.loss,
                          report.relative_output_error});
    });
    // Linked in, so that reflection can describe the health service.
    (void)grpc::health::v1::HealthCheckRequest::descriptor();
  }

  ~Impl() {
    Shutdown(absl::ZeroDuration());
    jobs_->ObserveGroups(nullptr);
  }

  absl::Status Serve() {
    if (!config_.metrics_listen.empty()) {
      absl::StatusOr<int> port = metrics_.Listen(config_.metrics_listen);
      if (!port.ok()) return port.status();
      metrics_port_ = *port;
    }
    RegisterPlugins();
    grpc::EnableDefaultHealthCheckService(config_.health);
    grpc::ServerBuilder builder;
    if (!config_.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
    SetArguments(config_, builder);
    builder.AddListeningPort(config_.listen, grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&quantization_);
    builder.RegisterService(&blobs_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", config_.listen,
                                                     "; expected an address of this host that is "
                                                     "free"));
    }
    if (grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService()) {
      for (const std::string& name :
           {std::string(kReadiness), std::string(v1::QuantizationService::service_full_name()),
            std::string(v1::BlobService::service_full_name())}) {
        health->SetServingStatus(name, true);
      }
    }
    return absl::OkStatus();
  }

  void Shutdown(absl::Duration grace) {
    std::call_once(shutdown_, [this, grace] { ShutdownOnce(grace); });
  }

  int port() const { return port_; }
  int metrics_port() const { return metrics_port_; }
  const ServerConfig& config() const { return config_; }

 private:
  void ShutdownOnce(absl::Duration grace) {
    const absl::Time end = absl::Now() + grace;
    registry_->Drain();
    jobs_->Drain();
    gate_.Drain();
    if (server_ == nullptr) return;
    if (grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService()) {
      health->SetServingStatus(false);
    }
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
    // Lets statuses get out, then cancels. Every reactor finishes when it is cancelled, so this
    // returns.
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kWindUp));
    server_->Wait();
  }

  // Each outlives those below it, which borrow it.
  const ServerConfig config_;
  const Storage storage_;
  const std::unique_ptr<CallRegistry> registry_;
  const std::unique_ptr<JobTable> jobs_;
  JobLines job_lines_;
  Metrics metrics_;
  DrainGate gate_;
  QuantizationService quantization_;
  BlobService blobs_;
  PeriodicTask expiry_;
  PeriodicTask job_log_;
  std::unique_ptr<grpc::Server> server_;
  std::once_flag shutdown_;
  int port_ = 0;
  int metrics_port_ = 0;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerConfig& config) {
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
  if (absl::Status status = impl->Serve(); !status.ok()) return status;
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;
int Server::port() const { return impl_->port(); }
int Server::metrics_port() const { return impl_->metrics_port(); }
const ServerConfig& Server::config() const { return impl_->config(); }
void Server::Shutdown(absl::Duration grace) { impl_->Shutdown(grace); }

}  // namespace salient
