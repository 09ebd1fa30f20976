// salientd: starts a server, says where it listens, stops well on SIGTERM, SIGINT or SIGHUP.
//
// Standard output carries one line, when ready: "salientd VERSION ready grpc=ADDRESS
// metrics=ADDRESS". Standard error carries the log. Exit codes: 0 stopped as asked, 1 could not
// start, or not stop in time, 2 usage, 3 new connections are no longer answered: who supervises the
// process is to start another one.
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/file/signals.h"
#include "core/file/standard_descriptors.h"
#include "server/config.h"
#include "server/observe/logs.h"
#include "server/process/machine.h"
#include "server/server.h"
#include "server/version.h"

namespace salient {
namespace {

// Beyond the grace and what winding up may take, something hangs.
constexpr absl::Duration kWatchdog = absl::Seconds(10);

constexpr int kUnreachableExit = 3;

std::string WithPort(const std::string& address, int port) {
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  // A server that nohup started outlives its terminal.
  if (!IsIgnored(SIGHUP)) sigaddset(&signals, SIGHUP);
  return signals;
}

void AnnounceReady(const Server& server) {
  const ServerConfig& config = server.config();
  std::string line =
      absl::StrCat("salientd ", kVersion, " ready grpc=", WithPort(config.listen, server.port()));
  if (server.metrics_port() != 0) {
    absl::StrAppend(&line, " metrics=", WithPort(config.metrics_listen, server.metrics_port()));
  }
  std::puts(line.c_str());
  std::fflush(stdout);
  LogInfo(absl::StrCat(
      line, " workers=", config.workers, " instruction_set=", config.instruction_set,
      " memory_bytes=", config.memory_bytes, " call_memory_bytes=", config.call_memory_bytes,
      " store_directory=", config.store_directory.empty() ? "temporary" : config.store_directory,
      " store_bytes=", config.store_bytes, " max_connections=", config.max_connections));
}

int Run(int argc, const char* const* argv) {
  HoldStandardDescriptors();
  auto flags = ParseFlags(argc, argv);
  if (!flags.ok()) {
    const std::string message(flags.status().message());
    std::fprintf(stderr, "salientd: %s\nTry salientd --help.\n", message.c_str());
    return 2;
  }
  if (const auto* print = std::get_if<PrintAndExit>(&*flags)) {
    std::fputs(print->text.c_str(), stdout);
    return 0;
  }
  const ServerConfig& config = std::get<ServerConfig>(*flags);
  StartLogging(config.log_level);

  // It is done before any thread starts, so that every thread has them blocked and only sigwait
  // takes them.
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  IgnoreSignalsOfWrites();

  const DescriptorLimit descriptors = RaiseDescriptorLimit();
  if (descriptors.now > descriptors.before) {
    LogInfo(absl::StrCat("files and connections: ", descriptors.now,
                         " may be open, as the hard limit says, instead of ", descriptors.before));
  }
  auto server = Server::Start(config, [] {
    LogWarning("new connections are no longer answered; leaving");
    _exit(kUnreachableExit);
  });
  if (!server.ok()) {
    const std::string message(server.status().message());
    std::fprintf(stderr, "salientd: %s\n", message.c_str());
    return 1;
  }
  AnnounceReady(**server);

  int signal = 0;
  sigwait(&signals, &signal);
  LogInfo(absl::StrCat("stopping: signal ", signal, " (", sigdescr_np(signal),
                       "), running calls have ", absl::FormatDuration(config.drain)));
  std::thread([grace = config.drain] {
    absl::SleepFor(grace + kWatchdog);
    LogWarning("the server did not stop in time; leaving");
    _exit(1);
  }).detach();
  (*server)->Shutdown(config.drain);
  server->reset();
  LogInfo("stopped");
  return 0;
}

}  // namespace
}  // namespace salient

int main(int argc, char** argv) { return salient::Run(argc, argv); }
