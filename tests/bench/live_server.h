// Runs a real salientd as a child process, and reads what it says of itself.
#ifndef SALIENT_TESTS_BENCH_LIVE_SERVER_H_
#define SALIENT_TESTS_BENCH_LIVE_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace salient::bench {

// Samples of a Prometheus scrape: "name{label="value"}" to value, as they stand there.
using Samples = std::map<std::string, double>;

class LiveServer {
 public:
  // Starts `program` with these flags beside ports of its own choice, and waits until it is ready.
  // Its log goes to the file `log`. It dies with this process. Returns INTERNAL naming the log.
  static absl::StatusOr<LiveServer> Start(const std::string& program,
                                          const std::vector<std::string>& flags,
                                          const std::string& log);
  LiveServer(LiveServer&& other) noexcept;
  LiveServer& operator=(LiveServer&&) = delete;
  // Asks it to stop and waits.
  ~LiveServer();

  // Returns the address of gRPC.
  const std::string& address() const { return address_; }
  absl::StatusOr<Samples> Scrape() const;
  // Sums all its threads so far.
  double CpuSeconds() const;
  // Returns VmHWM.
  int64_t PeakResidentBytes() const;

 private:
  LiveServer(pid_t pid, std::string address, std::string metrics_address);
  pid_t pid_;
  std::string address_;
  std::string metrics_address_;
};

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_LIVE_SERVER_H_
