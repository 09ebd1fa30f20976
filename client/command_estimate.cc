// salient estimate: what quantizing a model would cost, before it costs it.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/command.h"
#include "client/command_flags.h"
#include "client/job_display.h"
#include "client/job_report.h"
#include "client/job_run.h"
#include "client/job_session.h"
#include "client/model_upload.h"
#include "client/quantize_options.h"
#include "client/standard_output.h"
#include "client/token_file.h"

namespace salient::client {
namespace {

struct EstimateFlags {
  std::string source;
  std::string calibration;  // empty: blank tokens
  int64_t rows = 0;         // 0: all of the file, or the default
  int64_t tokens = 512;     // of a blank row
  SessionFlags session;
  QuantizeOptions options;
  bool json = false;
};

constexpr int64_t kBlankRows = 128;

absl::Status RunEstimate(const EstimateFlags& flags, Interrupt& interrupt) {
  auto tokens = flags.calibration.empty()
                    ? BlankTokens(flags.rows > 0 ? flags.rows : kBlankRows, flags.tokens)
                    : TokenFile(flags.calibration);
  if (!tokens.ok()) return tokens.status();
  QuantizeOptions options = flags.options;
  options.rows = flags.rows;
  auto task = ToTask(options, tokens->digest);
  if (!task.ok()) return task.status();
  if (auto good = CheckModelDirectory(flags.source); !good.ok()) return good;

  const auto session = JobSession::Start(flags.session, v1::TASK_KIND_QUANTIZE, "", interrupt);
  if (!session.ok()) return session.status();
  if (auto has = CheckServerHas(session->info(), *task); !has.ok()) {
    return has;
  }
  const auto fill = [&](JobDisplay& display, JobPlan& plan) -> absl::Status {
    v1::JobSpec& spec = *plan.request.mutable_spec();
    if (auto added = session->AddModel(flags.source, kInlineBytes, display, interrupt,
                                       *spec.mutable_model(), plan);
        !added.ok()) {
      return added;
    }
    plan.first.push_back(*std::move(tokens));
    *spec.mutable_quantize() = *std::move(task);
    return absl::OkStatus();
  };
  const auto job = session->Estimate(fill, interrupt);
  if (!job.ok()) return job.status();
  return WriteOutput(flags.json ? absl::StrCat(EstimateJson(*job), "\n")
                                : EstimateTable(flags.source, job->job.estimate()));
}

}  // namespace

Command AddEstimateCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("estimate", "What quantizing a model would cost; changes nothing");
  auto flags = std::make_shared<EstimateFlags>();
  command->add_option("source", flags->source, "Directory of the model")->required();
  CLI::Option* calibration =
      command->add_option("--calibration", flags->calibration,
                          "safetensors with input_ids; default: blank tokens of the shape below");
  command
      ->add_option("--rows", flags->rows,
                   absl::StrCat("Calibration rows; 0: all of the file, or ", kBlankRows))
      ->check(CLI::NonNegativeNumber);
  command->add_option("--tokens", flags->tokens, "Tokens of a blank row")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->excludes(calibration);
  AddQuantizeOptions(*command, flags->options);
  AddSessionOptions(*command, flags->session);
  command->add_flag("--json", flags->json, "One JSON object on standard output");
  return {command, [flags](Interrupt& interrupt) { return RunEstimate(*flags, interrupt); }};
}

}  // namespace salient::client
