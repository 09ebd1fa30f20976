// Serves metrics over HTTP.
#ifndef SALIENT_SERVER_OBSERVE_METRICS_ENDPOINT_H_
#define SALIENT_SERVER_OBSERVE_METRICS_ENDPOINT_H_

#include <prometheus/collectable.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace prometheus {
class Exposer;
}  // namespace prometheus

namespace salient {

class MetricsEndpoint {
 public:
  // Listens on `address`, "HOST:PORT", whose port 0 takes one that is free, and answers with what
  // `sources` collect as long as they live. INVALID_ARGUMENT if it cannot.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Listen(
      const std::string& address,
      const std::vector<std::shared_ptr<prometheus::Collectable>>& sources);
  ~MetricsEndpoint();
  MetricsEndpoint(const MetricsEndpoint&) = delete;
  MetricsEndpoint& operator=(const MetricsEndpoint&) = delete;

  int port() const { return port_; }

 private:
  MetricsEndpoint(const std::string& address, std::unique_ptr<prometheus::Exposer> exposer,
                  int port);

  std::unique_ptr<prometheus::Exposer> exposer_;
  int port_;
  std::string local_address_;  // This process reaches it there.
};

}  // namespace salient

#endif  // SALIENT_SERVER_OBSERVE_METRICS_ENDPOINT_H_
