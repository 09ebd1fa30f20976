// salient estimate: what quantizing a model would cost, before it costs it.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/command.h"
#include "client/command_flags.h"
#include "client/errors.h"
#include "client/flag_values.h"
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

// What nobody said, so that people know what the figures are of; empty if they said it all.
std::string AssumedText(const EstimateFlags& flags) {
  if (!flags.calibration.empty()) return "";
  return absl::StrCat(flags.rows > 0 ? flags.rows : kBlankRows, " calibration rows of ",
                      flags.tokens, " tokens, for want of --calibration");
}

absl::Status RunEstimate(const EstimateFlags& flags, Interrupt& interrupt) {
  QuantizeOptions options = flags.options;
  options.rows = flags.rows;
  auto task = ToTask(options);
  if (!task.ok()) return UsageError(task.status().message());
  auto tokens = flags.calibration.empty()
                    ? BlankTokens(flags.rows > 0 ? flags.rows : kBlankRows, flags.tokens)
                    : TokenFile(flags.calibration);
  if (!tokens.ok()) return tokens.status();
  *task->mutable_calibration()->mutable_tokens()->mutable_tokens() = tokens->digest;
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
  return WriteOutput(flags.json
                         ? absl::StrCat(EstimateJson(*job), "\n")
                         : EstimateTable(flags.source, job->job.estimate(), AssumedText(flags)));
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
      ->check(Count());
  command->add_option("--tokens", flags->tokens, "Tokens of a blank row")
      ->check(IntegerIn(1, int64_t{1} << 30))
      ->capture_default_str()
      ->excludes(calibration);
  AddQuantizeOptions(*command, flags->options);
  AddSessionOptions(*command, flags->session);
  AddJsonOption(*command, flags->json);
  return {command, [flags](Interrupt& interrupt) { return RunEstimate(*flags, interrupt); }};
}

}  // namespace salient::client
