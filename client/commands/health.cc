// salient health: asks grpc.health.v1, for HEALTHCHECK lines and probes.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/options/flag_values.h"
#include "client/options/server_address.h"
#include "client/terminal/errors.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/json_text.h"
#include "client/terminal/standard_output.h"
#include "client/transfer/channel.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"

namespace salient::client {
namespace {

namespace health = ::grpc::health::v1;

struct HealthFlags {
  std::string server = kDefaultServer;
  std::string service;
  double timeout_seconds = 5;
  bool json = false;
};

// Returns UNAVAILABLE for every answer but SERVING: a probe has one question.
absl::Status RunHealth(const HealthFlags& flags, Interrupt& interrupt) {
  const auto stub = health::Health::NewStub(OpenChannel(flags.server));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(flags.timeout_seconds)));
  health::HealthCheckRequest request;
  request.set_service(flags.service);
  health::HealthCheckResponse response;
  grpc::Status status;
  {
    Interrupt::Watch watch(interrupt, [&context] { context.TryCancel(); });
    status = stub->Check(&context, request, &response);
  }
  if (interrupt.Raised()) return absl::CancelledError("interrupted");
  const std::string who = flags.service.empty()
                              ? absl::StrCat("the server at ", flags.server)
                              : absl::StrCat("service ", flags.service, " at ", flags.server);
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) {
    return absl::UnavailableError(absl::StrCat(who, " is not known there"));
  }
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    return absl::UnavailableError(absl::StrCat(who, " does not answer grpc.health.v1"));
  }
  if (!status.ok()) {
    return absl::UnavailableError(FromGrpcStatus(status, flags.server).message());
  }
  if (response.status() != health::HealthCheckResponse::SERVING) {
    return absl::UnavailableError(absl::StrCat(
        who, " answers ", health::HealthCheckResponse::ServingStatus_Name(response.status())));
  }
  return WriteOutput(
      flags.json
          ? JsonObject().AddString("status", "SERVING").AddString("server", flags.server).Text() +
                "\n"
          : "SERVING\n");
}

}  // namespace

Command AddHealthCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("health", "Exit 0 if a server is serving, 69 otherwise");
  auto flags = std::make_shared<HealthFlags>();
  AddServerOption(*command, flags->server);
  command->add_option("--service", flags->service,
                      "Service asked about; default: the whole server");
  command
      ->add_option("--timeout", flags->timeout_seconds,
                   "How long to wait for the answer, in seconds or with a unit")
      ->transform(Seconds())
      ->check(NumberIn(0.001, 3600))
      ->capture_default_str();
  AddJsonOption(*command, flags->json);
  return {command, [flags](Interrupt& interrupt) { return RunHealth(*flags, interrupt); }};
}

}  // namespace salient::client
