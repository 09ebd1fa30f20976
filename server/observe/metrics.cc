#include "server/observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"
#include "core/model/numerics.h"
#include "core/quantize/fold_proof.h"
#include "server/observe/metrics_endpoint.h"
#include "server/observe/stats_collector.h"

namespace salient {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Histogram;
using prometheus::Labels;

constexpr size_t kCodes = 17;
// Codes are spelled as in the metrics of other gRPC servers, so that dashboards for those fit.
constexpr std::array<const char*, kCodes> kCodeNames = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

const char* Name(RpcType type) {
  switch (type) {
    case RpcType::kUnary:
      return "unary";
    case RpcType::kClientStream:
      return "client_stream";
    case RpcType::kServerStream:
      return "server_stream";
    case RpcType::kBidiStream:
      return "bidi_stream";
  }
  return "unary";
}

const Histogram::BucketBoundaries kHandlingSeconds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                      1,     2.5,  5,     10,   60,  600,  3600};
const Histogram::BucketBoundaries kParametersPerSecond = {1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6,
                                                          3e6, 1e7, 3e7, 1e8, 3e8, 1e9};
const Histogram::BucketBoundaries kRelativeError = {1e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3,
                                                    1e-2, 2e-2, 5e-2, 0.1,  0.2,  0.5,  1};
// What f32 rounds is 1e-7 to 1e-5; nothing above the last is reported.
const Histogram::BucketBoundaries kFoldError = {1e-8, 3e-8, 1e-7, 3e-7, 1e-6,          3e-6,
                                                1e-5, 3e-5, 1e-4, 3e-4, kMostFoldError};
// Above 1 would be worse than round-to-nearest, which is never to happen.
const Histogram::BucketBoundaries kLossRatio = {0.1, 0.2, 0.3, 0.4,  0.5, 0.6,
                                                0.7, 0.8, 0.9, 0.95, 1,   1.05};

}  // namespace

class Metrics::Impl {
 public:
  explicit Impl(absl::string_view version) {
    BuildGauge()
        .Name("salient_build_info")
        .Help("What this server is; always 1.")
        .Register(*registry_)
        .Add({{"version", std::string(version)},
              {"onednn", OneDnnVersion()},
              {"instruction_path", InstructionPath()},
              {"numerics_id", NumericsId()}})
        .Set(1);
    for (const Reason reason : AllReasons()) {
      by_reason_.push_back(&errors_.Add({{"reason", std::string(salient::Name(reason))}}));
    }
  }

  // Counts of one method.
  class MethodSeries final : public Rpc {
   public:
    MethodSeries(Impl& impl, const RpcName& name) : impl_(impl) {
      const Labels labels = {{"grpc_type", Name(name.type)},
                             {"grpc_service", std::string(name.service)},
                             {"grpc_method", std::string(name.method)}};
      started_ = &impl.started_.Add(labels);
      received_ = &impl.received_.Add(labels);
      sent_ = &impl.sent_.Add(labels);
      seconds_ = &impl.seconds_.Add(labels, kHandlingSeconds);
      for (size_t code = 0; code < kCodes; ++code) {
        Labels with_code = labels;
        with_code["grpc_code"] = kCodeNames[code];
        handled_[code] = &impl.handled_.Add(with_code);
      }
    }

    void Started() override { started_->Increment(); }
    void Received(size_t bytes) override {
      received_->Increment();
      impl_.bytes_in_.Increment(static_cast<double>(bytes));
    }
    void Sent(size_t bytes) override {
      sent_->Increment();
      impl_.bytes_out_.Increment(static_cast<double>(bytes));
    }
    void Handled(const absl::Status& status, absl::Duration elapsed) override {
      const size_t code = static_cast<size_t>(status.code());
      handled_[code < kCodes ? code : 2]->Increment();
      seconds_->Observe(absl::ToDoubleSeconds(elapsed));
      if (status.ok()) return;
      impl_.by_reason_[static_cast<size_t>(DetailsOf(status).reason)]->Increment();
    }

   private:
    Impl& impl_;
    Counter* started_;
    Counter* received_;
    Counter* sent_;
    Histogram* seconds_;
    std::array<Counter*, kCodes> handled_;
  };

  Rpc& AddRpc(const RpcName& name) {
    return *rpcs_.emplace_back(std::make_unique<MethodSeries>(*this, name));
  }

  void GroupDone(const GroupOutcome& outcome) {
    const double seconds = absl::ToDoubleSeconds(outcome.elapsed);
    if (seconds > 0) rate_.Observe(static_cast<double>(outcome.parameters) / seconds);
    relative_error_.Observe(outcome.relative_output_error);
    if (outcome.fold_error.has_value()) fold_error_.Observe(*outcome.fold_error);
    loss_ratio_.Observe(outcome.loss_rtn > 0 ? outcome.loss / outcome.loss_rtn : 1);
  }

  void BlobBytesWritten(int64_t bytes) { blob_bytes_in_.Increment(static_cast<double>(bytes)); }
  void BlobBytesRead(int64_t bytes) { blob_bytes_out_.Increment(static_cast<double>(bytes)); }

  StatsCollector& collector() { return *collector_; }

  absl::StatusOr<int> Listen(const std::string& address) {
    absl::StatusOr<std::unique_ptr<MetricsEndpoint>> endpoint =
        MetricsEndpoint::Listen(address, {registry_, collector_});
    if (!endpoint.ok()) return endpoint.status();
    endpoint_ = *std::move(endpoint);
    return endpoint_->port();
  }

  std::string Text() const {
    std::vector<prometheus::MetricFamily> families = registry_->Collect();
    for (prometheus::MetricFamily& family : collector_->Collect()) {
      families.push_back(std::move(family));
    }
    return prometheus::TextSerializer().Serialize(families);
  }

 private:
  prometheus::Family<Counter>& AddCounter(const std::string& name, const std::string& help) {
    return BuildCounter().Name(name).Help(help).Register(*registry_);
  }
  prometheus::Family<Histogram>& AddHistogram(const std::string& name, const std::string& help) {
    return BuildHistogram().Name(name).Help(help).Register(*registry_);
  }

  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::shared_ptr<StatsCollector> collector_ = std::make_shared<StatsCollector>();

  prometheus::Family<Counter>& started_ =
      AddCounter("grpc_server_started_total", "Calls begun on the server.");
  prometheus::Family<Counter>& handled_ = AddCounter(
      "grpc_server_handled_total", "Calls completed on the server, whatever their code.");
  prometheus::Family<Counter>& received_ =
      AddCounter("grpc_server_msg_received_total", "Messages received from clients.");
  prometheus::Family<Counter>& sent_ =
      AddCounter("grpc_server_msg_sent_total", "Messages sent to clients.");
  prometheus::Family<Histogram>& seconds_ =
      AddHistogram("grpc_server_handling_seconds", "Time from the start of a call to its status.");
  prometheus::Family<Counter>& errors_ =
      AddCounter("salient_errors_total", "Calls that failed, by ErrorInfo.reason.");
  prometheus::Family<Counter>& bytes_ =
      AddCounter("salient_bytes_total", "Bytes of messages received (in) and sent (out).");
  Counter& bytes_in_ = bytes_.Add({{"direction", "in"}});
  Counter& bytes_out_ = bytes_.Add({{"direction", "out"}});
  prometheus::Family<Counter>& blob_bytes_ = AddCounter(
      "salient_blob_bytes_total", "Bytes of blobs committed (in) and sent to clients (out).");
  Counter& blob_bytes_in_ = blob_bytes_.Add({{"direction", "in"}});
  Counter& blob_bytes_out_ = blob_bytes_.Add({{"direction", "out"}});
  Histogram& rate_ = AddHistogram("salient_group_parameters_per_second",
                                  "Weights of a group over the time from its last input to its "
                                  "result.")
                         .Add({}, kParametersPerSecond);
  Histogram& relative_error_ =
      AddHistogram("salient_relative_output_error_ratio",
                   "Squared output error of a group over the squared norm of its output.")
          .Add({}, kRelativeError);
  Histogram& fold_error_ =
      AddHistogram("salient_fold_error_ratio",
                   "How much folding a group's scale changes what its block computes, over what "
                   "the block adds.")
          .Add({}, kFoldError);
  Histogram& loss_ratio_ =
      AddHistogram("salient_loss_ratio", "Loss of a group over the loss of round-to-nearest.")
          .Add({}, kLossRatio);
  std::vector<Counter*> by_reason_;  // They stand in the order of AllReasons.
  std::deque<std::unique_ptr<MethodSeries>> rpcs_;
  // It stands last, because it goes before what it collects.
  std::unique_ptr<MetricsEndpoint> endpoint_;
};

Metrics::Metrics(absl::string_view version) : impl_(std::make_unique<Impl>(version)) {}
Metrics::~Metrics() = default;
Metrics::Rpc& Metrics::AddRpc(const RpcName& name) { return impl_->AddRpc(name); }
void Metrics::GroupDone(const GroupOutcome& outcome) { impl_->GroupDone(outcome); }
void Metrics::BlobBytesWritten(int64_t bytes) { impl_->BlobBytesWritten(bytes); }
void Metrics::BlobBytesRead(int64_t bytes) { impl_->BlobBytesRead(bytes); }
void Metrics::Watch(const CallRegistry& registry) { impl_->collector().Watch(registry); }
void Metrics::Watch(const BlobStore& store) { impl_->collector().Watch(store); }
void Metrics::Watch(const JobTable& jobs) { impl_->collector().Watch(jobs); }
void Metrics::Watch(absl::string_view name, const BoundedLane& lane) {
  impl_->collector().Watch(name, lane);
}
void Metrics::Watch(std::function<HouseStats()> get) { impl_->collector().Watch(std::move(get)); }
absl::StatusOr<int> Metrics::Listen(const std::string& address) { return impl_->Listen(address); }
std::string Metrics::Text() const { return impl_->Text(); }

}  // namespace salient
