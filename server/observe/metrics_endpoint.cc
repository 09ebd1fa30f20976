#include "server/observe/metrics_endpoint.h"

#include <prometheus/exposer.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/listen/descriptor.h"
#include "server/listen/listening_sockets.h"

namespace salient {
namespace {

// A thread answers one connection at a time. Requests that do not come to their end hold a thread
// each, until the server of HTTP gives them up.
constexpr int kThreads = 16;
constexpr int kRequestMilliseconds = 2000;

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Listen(
    const std::string& address,
    const std::vector<std::shared_ptr<prometheus::Collectable>>& sources) {
  // This is one of the two places where exceptions of a library are caught.
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", absl::StrCat(kThreads),
                                 "request_timeout_ms", absl::StrCat(kRequestMilliseconds)});
    for (const std::shared_ptr<prometheus::Collectable>& source : sources) {
      exposer->RegisterCollectable(source);
    }
    const std::vector<int> ports = exposer->GetListeningPorts();
    if (!ports.empty()) {
      return std::unique_ptr<MetricsEndpoint>(
          new MetricsEndpoint(address, std::move(exposer), ports.front()));
    }
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot serve metrics on ", address, ": ", error.what()));
  }
  return absl::InvalidArgumentError(absl::StrCat("cannot serve metrics on ", address));
}

MetricsEndpoint::MetricsEndpoint(const std::string& address,
                                 std::unique_ptr<prometheus::Exposer> exposer, int port)
    : exposer_(std::move(exposer)), port_(port), local_address_(LocalAddress(address, port)) {}

MetricsEndpoint::~MetricsEndpoint() {
  // The thread that listens looks whether it shall end when a connection comes, else every 2 s.
  std::atomic<bool> ended = false;
  std::thread end([&] {
    exposer_.reset();
    ended = true;
  });
  while (!ended) {
    const absl::StatusOr<Descriptor> connection = BeginConnect(local_address_);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  end.join();
}

}  // namespace salient
