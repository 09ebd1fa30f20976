// Runs salient inspect: it tells what a model directory is, and which engines load it.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/jobs/model_upload.h"
#include "client/jobs/run.h"
#include "client/jobs/session.h"
#include "client/options/flag_values.h"
#include "client/report/inspection.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/terminal/standard_output.h"

namespace salient::client {
namespace {

struct InspectFlags {
  std::string model;
  int32_t tensor_parallel = 1;
  SessionFlags session;
  bool json = false;
};

absl::Status RunInspect(const InspectFlags& flags, Interrupt& interrupt) {
  if (auto good = CheckModelDirectory(flags.model); !good.ok()) return good;
  const auto session = JobSession::Start(flags.session, v1::TASK_KIND_INSPECT, "", interrupt);
  if (!session.ok()) return session.status();

  const auto fill = [&](JobDisplay&, JobPlan& plan) -> absl::Status {
    v1::JobSpec& spec = *plan.request.mutable_spec();
    auto added = session->AddHeaders(flags.model, interrupt, *spec.mutable_model(), plan);
    if (!added.ok()) return added;
    spec.mutable_inspect()->set_tensor_parallel(flags.tensor_parallel);
    plan.tells_name = false;  // It is over before anybody could look for it.
    plan.after_interrupt = "Run the same command again";  // Nothing of the model is there.
    return absl::OkStatus();
  };
  const auto outcome = session->Run(fill, interrupt);
  if (!outcome.ok()) return outcome.status();
  if (!outcome->job.has_inspection()) {
    return session->MissingResult(outcome->job, "an inspection");
  }
  const v1::Inspection& inspection = outcome->job.inspection();
  return WriteOutput(flags.json ? absl::StrCat(InspectionJson(flags.model, inspection), "\n")
                                : InspectionTable(flags.model, inspection));
}

}  // namespace

Command AddInspectCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "inspect", "What a model directory is, and which engines load it; reads no weights");
  auto flags = std::make_shared<InspectFlags>();
  command->add_option("model", flags->model, "Directory of the model")
      ->check(Given(kPath))
      ->required();
  AddTensorParallelOption(*command, flags->tensor_parallel);
  AddSessionOptions(*command, flags->session);
  AddJsonOption(*command, flags->json);
  return {command, [flags](Interrupt& interrupt) { return RunInspect(*flags, interrupt); }};
}

}  // namespace salient::client
