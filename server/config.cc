#include "server/config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/kernels/instruction_set.h"
#include "core/linalg/instruction_limit.h"
#include "core/text/measure.h"
#include "server/observe/logs.h"
#include "server/process/machine.h"
#include "server/version.h"

namespace salient {
namespace {

constexpr int kMaxWorkers = 1024;
constexpr int kMaxCalls = 10000;
constexpr int kMaxRunningJobs = 1000;
constexpr int64_t kMaxConnections = 1'000'000;
constexpr int64_t kDefaultConnections = 4096;
constexpr int64_t kLeastMemory = int64_t{16} << 20;
constexpr int64_t kLeastStore = int64_t{1} << 20;
constexpr double kDay = 86400;

absl::Status Bad(absl::string_view flag, absl::string_view value, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(flag, " is ", value, "; expected ", expected));
}

// Takes HOST:PORT and [IPV6]:PORT.
absl::Status CheckAddress(absl::string_view flag, absl::string_view address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return Bad(flag, absl::StrCat("\"", address, "\""),
               "HOST:PORT with a port of 0 (any) to 65535, e.g. 0.0.0.0:8443");
  }
  return absl::OkStatus();
}

absl::Status CheckRoot(absl::string_view flag, const std::string& path) {
  std::error_code ignored;
  if (path.empty() || std::filesystem::is_directory(path, ignored)) return absl::OkStatus();
  return Bad(flag, absl::StrCat("\"", path, "\""), "a directory that exists, or nothing");
}

absl::Status CheckMemory(absl::string_view flag, int64_t bytes) {
  if (bytes == 0 || bytes >= kLeastMemory) return absl::OkStatus();
  return Bad(flag, absl::StrCat(bytes), absl::StrCat("0 (the default) or at least ", kLeastMemory));
}

struct Seconds {
  const char* flag;
  const char* help;
  absl::Duration ServerConfig::*field;
  double most = kDay;
};
constexpr Seconds kSeconds[] = {
    {"--idle-seconds", "End a call whose client sends nothing for so long",
     &ServerConfig::idle_timeout},
    {"--not-reading-seconds",
     "End a call whose memory is full of results that nobody reads for so long",
     &ServerConfig::not_reading_timeout},
    {"--memory-wait-seconds", "Refuse a group that finds no memory for so long",
     &ServerConfig::memory_wait},
    {"--drain-seconds", "After SIGTERM let running calls go on for so long", &ServerConfig::drain},
    {"--job-ttl-seconds", "Forget a job and its results so long after it ended",
     &ServerConfig::job_ttl, 365 * kDay},
};

absl::Status CheckSeconds(const Seconds& flag, absl::Duration value) {
  const double seconds = absl::ToDoubleSeconds(value);
  if (seconds >= 0.01 && seconds <= flag.most) return absl::OkStatus();
  return Bad(flag.flag, absl::StrCat(seconds), absl::StrCat("0.01 to ", flag.most, " seconds"));
}

// Puts the number that `parse` makes of a value in its place.
template <typename Number>
CLI::Validator Measure(std::optional<Number> (*parse)(absl::string_view),
                       const std::string& expected) {
  return CLI::Validator(
      [parse, expected](std::string& value) {
        const std::optional<Number> number = parse(value);
        if (!number.has_value()) return absl::StrCat("\"", value, "\"; expected ", expected);
        value = NumberText(*number);
        return std::string();
      },
      "");
}

CLI::Validator Bytes() { return Measure(ParseBytes, absl::StrCat(kBytesExpected, ", e.g. 64GiB")); }

CLI::Validator Time() { return Measure(ParseSeconds, absl::StrCat(kSecondsExpected, ", e.g. 5m")); }

}  // namespace

absl::Status CheckConfig(const ServerConfig& config) {
  absl::Status status = CheckAddress("--listen", config.listen);
  if (status.ok() && !config.metrics_listen.empty()) {
    status = CheckAddress("--metrics-listen", config.metrics_listen);
  }
  if (!status.ok()) return status;
  if (config.workers < 0 || config.workers > kMaxWorkers) {
    return Bad("--workers", absl::StrCat(config.workers),
               absl::StrCat("0 (one for each processor) to ", kMaxWorkers));
  }
  if (config.max_active_calls < 1 || config.max_active_calls > kMaxCalls) {
    return Bad("--max-active-calls", absl::StrCat(config.max_active_calls),
               absl::StrCat("1 to ", kMaxCalls));
  }
  if (config.max_connections < 0 || config.max_connections > kMaxConnections) {
    return Bad("--max-connections", absl::StrCat(config.max_connections),
               absl::StrCat("0 (half of the files it may open, at most ", kDefaultConnections,
                            ") to ", kMaxConnections));
  }
  if (status = ParseInstructionSet(config.instruction_set).status(); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--instruction-set: ", status.message()));
  }
  if (status = CheckMemory("--memory-bytes", config.memory_bytes); !status.ok()) return status;
  if (status = CheckMemory("--call-memory-bytes", config.call_memory_bytes); !status.ok()) {
    return status;
  }
  if (config.memory_bytes > 0 && config.call_memory_bytes > config.memory_bytes) {
    return Bad("--call-memory-bytes", absl::StrCat(config.call_memory_bytes),
               absl::StrCat("at most --memory-bytes, ", config.memory_bytes));
  }
  for (const Seconds& seconds : kSeconds) {
    if (status = CheckSeconds(seconds, config.*seconds.field); !status.ok()) return status;
  }
  if (config.store_bytes < kLeastStore) {
    return Bad("--store-bytes", absl::StrCat(config.store_bytes),
               absl::StrCat("at least ", kLeastStore));
  }
  if (config.max_running_jobs < 1 || config.max_running_jobs > kMaxRunningJobs) {
    return Bad("--max-running-jobs", absl::StrCat(config.max_running_jobs),
               absl::StrCat("1 to ", kMaxRunningJobs));
  }
  if (status = CheckRoot("--model-root", config.model_root); !status.ok()) return status;
  if (status = CheckRoot("--output-root", config.output_root); !status.ok()) return status;
  if (!IsLogLevel(config.log_level)) {
    return Bad("--log-level", absl::StrCat("\"", config.log_level, "\""),
               "debug, info, warning, error or off");
  }
  return absl::OkStatus();
}

ServerConfig WithDefaults(ServerConfig config) {
  if (config.workers == 0) config.workers = AvailableProcessors();
  if (config.memory_bytes == 0) {
    config.memory_bytes =
        std::max({AvailableMemoryBytes() / 4 * 3, kLeastMemory, config.call_memory_bytes});
  }
  if (config.call_memory_bytes == 0) {
    config.call_memory_bytes =
        std::max(kLeastMemory, std::min(int64_t{4} << 30, config.memory_bytes / 2));
  }
  if (config.max_connections == 0) {
    // Uploads, downloads and jobs open files, too.
    config.max_connections =
        std::clamp<int64_t>(AvailableDescriptors() / 2, 1, kDefaultConnections);
  }
  return config;
}

absl::Status ApplyInstructionSet(const ServerConfig& config) {
  const auto set = ParseInstructionSet(config.instruction_set);
  return set.ok() ? LimitInstructionSet(*set) : set.status();
}

absl::StatusOr<std::variant<ServerConfig, PrintAndExit>> ParseFlags(int argc,
                                                                    const char* const* argv) {
  ServerConfig config;
  config.metrics_listen = "127.0.0.1:9464";
  CLI::App app("salientd: quantizes large language models as a service", "salientd");
  app.set_version_flag("--version", std::string(kVersion));
  app.add_option("--listen", config.listen, "Address of gRPC")->capture_default_str();
  app.add_option("--metrics-listen", config.metrics_listen,
                 "Address of GET /metrics; \"\" turns it off")
      ->capture_default_str();
  app.add_option("--workers", config.workers, "Threads that compute; 0: one for each processor");
  app.add_option("--instruction-set", config.instruction_set,
                 "Compute with no more than avx2, avx512_core, avx512_core_bf16 or "
                 "avx512_core_amx, so that unlike machines compute alike")
      ->capture_default_str();
  app.add_option("--memory-bytes", config.memory_bytes,
                 "Memory of all calls together, in bytes or as 8GiB; 0: 3/4 of the cgroup's or the "
                 "machine's")
      ->transform(Bytes());
  app.add_option("--call-memory-bytes", config.call_memory_bytes,
                 "Memory of one call, in bytes or as 512MiB; 0: half of --memory-bytes, at most 4 "
                 "GiB")
      ->transform(Bytes());
  app.add_option("--max-active-calls", config.max_active_calls, "QuantizeTensors calls at a time")
      ->capture_default_str();
  app.add_option("--max-connections", config.max_connections,
                 "Connections at a time, further ones are closed; 0: half of the files that the "
                 "process may open, at most 4096");
  app.add_option("--store-directory", config.store_directory,
                 "Blobs, results and working files of jobs; default: a temporary directory that "
                 "goes away with the server");
  app.add_option("--store-bytes", config.store_bytes,
                 "Blobs and uploads together, in bytes or as 64GiB")
      ->transform(Bytes())
      ->capture_default_str();
  app.add_option("--model-root", config.model_root,
                 "Jobs may read models below it; default: only uploaded ones");
  app.add_option("--output-root", config.output_root,
                 "Jobs may write results below it; default: only blobs");
  app.add_option("--max-running-jobs", config.max_running_jobs, "Jobs that run at a time")
      ->capture_default_str();
  std::vector<double> seconds;
  for (const Seconds& flag : kSeconds) {
    seconds.push_back(absl::ToDoubleSeconds(config.*flag.field));
  }
  for (size_t i = 0; i < seconds.size(); ++i) {
    app.add_option(kSeconds[i].flag, seconds[i],
                   absl::StrCat(kSeconds[i].help, ", in seconds or as 5m"))
        ->transform(Time())
        ->capture_default_str();
  }
  app.add_flag("!--no-health", config.health, "Do not serve grpc.health.v1.Health");
  app.add_flag("!--no-reflection", config.reflection, "Do not serve reflection");
  app.add_option("--log-level", config.log_level, "debug, info, warning, error or off")
      ->capture_default_str();
  // CLI11 reports by exceptions; they end here.
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return PrintAndExit{app.help()};
  } catch (const CLI::CallForVersion&) {
    return PrintAndExit{absl::StrCat("salientd ", kVersion, "\n")};
  } catch (const CLI::ExtrasError&) {
    // CLI11 gives its errors in reverse.
    return absl::InvalidArgumentError(
        absl::StrCat("unknown arguments: ", absl::StrJoin(app.remaining(), " ")));
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  for (size_t i = 0; i < seconds.size(); ++i) {
    config.*kSeconds[i].field = absl::Seconds(seconds[i]);
  }
  if (absl::Status status = CheckConfig(config); !status.ok()) return status;
  return config;
}

}  // namespace salient
