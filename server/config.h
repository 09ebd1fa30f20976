// Says what an operator may set, with defaults that suit the machine or its cgroup.
#ifndef SALIENT_SERVER_CONFIG_H_
#define SALIENT_SERVER_CONFIG_H_

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace salient {

// 0 or empty: the default that WithDefaults fills in, or off.
struct ServerConfig {
  std::string listen = "127.0.0.1:8443";  // It is that of gRPC; port 0 chooses one.
  std::string metrics_listen;             // It is that of GET /metrics; empty turns it off.
  int workers = 0;                        // 0 stands for the processors that the cgroup allows.
  // The process computes with this at most, a name of core/kernels/instruction_set.h.
  std::string instruction_set = "native";
  int64_t memory_bytes = 0;  // All calls may have it; 0 stands for 3/4 of what there is.
  int64_t call_memory_bytes =
      0;  // One call may have it; 0 stands for memory_bytes / 2, at most 4 GiB.
  int max_active_calls = 64;
  int64_t max_connections = 0;  // 0 stands for half of the descriptors it may open, at most 4096.
  absl::Duration idle_timeout = absl::Seconds(600);
  absl::Duration not_reading_timeout = absl::Seconds(30);
  absl::Duration memory_wait = absl::Seconds(30);
  absl::Duration drain = absl::Seconds(30);  // Running calls may go on for so long after SIGTERM.
  // Blobs, results and the working files of jobs; empty: a directory of the process, which goes
  // away with it.
  std::string store_directory;
  int64_t store_bytes = int64_t{64} << 30;  // It holds blobs and uploads.
  std::string model_root;                   // Jobs may read models below it; empty allows none.
  std::string output_root;                  // Jobs may write results below it; empty allows none.
  int max_running_jobs = 1;
  absl::Duration job_ttl =
      absl::Hours(24);  // A job and its results stay for so long after it ended.
  bool health = true;
  bool reflection = true;
  std::string log_level = "info";
};

// Returns INVALID_ARGUMENT naming the flag, its value and what was expected.
absl::Status CheckConfig(const ServerConfig& config);

// Fills in what depends on the machine.
ServerConfig WithDefaults(ServerConfig config);

// Limits the process to config.instruction_set. Its errors are those of LimitInstructionSet.
absl::Status ApplyInstructionSet(const ServerConfig& config);

// The program was asked for a text (help, version) and prints it instead of serving.
struct PrintAndExit {
  std::string text;
};

// Parses the flags of salientd. Returns INVALID_ARGUMENT for an unknown flag or a value out of
// range.
absl::StatusOr<std::variant<ServerConfig, PrintAndExit>> ParseFlags(int argc,
                                                                    const char* const* argv);

}  // namespace salient

#endif  // SALIENT_SERVER_CONFIG_H_
