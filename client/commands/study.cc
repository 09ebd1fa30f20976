// Runs salient study: it tells what a few salient channels in F16 are worth.
#include "client/report/study.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/jobs/model_upload.h"
#include "client/jobs/run.h"
#include "client/jobs/session.h"
#include "client/jobs/token_file.h"
#include "client/options/enum_text.h"
#include "client/options/flag_values.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/terminal/standard_output.h"
#include "client/transfer/local_blob.h"

namespace salient::client {
namespace {

struct StudyFlags {
  std::string model;
  std::string calibration;
  TokenRowFlags calibration_rows;
  ScoredTokens evaluation;
  CodeFlags codes = {.bits = 3, .group_size = 128};
  double share = 0.01;
  std::string compute_dtype = "bf16";
  uint64_t seed = 0;
  SessionFlags session;
  bool json = false;
};

v1::StudyTask ToTask(const StudyFlags& flags, const LocalBlob& calibration,
                     const LocalBlob& evaluation) {
  v1::StudyTask task;
  TokenRowFlags rows = flags.calibration_rows;
  rows.allow_long = flags.evaluation.rows.allow_long;
  *task.mutable_calibration() = ToTokens(calibration, rows);
  *task.mutable_evaluation() = ToTokens(evaluation, flags.evaluation.rows);
  task.set_salient_share(flags.share);
  *task.mutable_format() = ToWeightFormat(flags.codes);
  task.set_compute_dtype(
      EnumNamed<v1::ComputeDtype>(flags.compute_dtype).value_or(v1::COMPUTE_DTYPE_BF16));
  task.set_seed(flags.seed);
  return task;
}

absl::Status RunStudy(const StudyFlags& flags, Interrupt& interrupt) {
  const absl::Time start = absl::Now();
  auto calibration = TokenFile(flags.calibration);
  if (!calibration.ok()) return calibration.status();
  auto evaluation = TokenFile(flags.evaluation.file);
  if (!evaluation.ok()) return evaluation.status();
  if (auto good = CheckModelDirectory(flags.model); !good.ok()) return good;
  const auto session = JobSession::Start(flags.session, v1::TASK_KIND_STUDY, "", interrupt);
  if (!session.ok()) return session.status();

  const auto fill = [&](JobDisplay& display, JobPlan& plan) -> absl::Status {
    v1::JobSpec& spec = *plan.request.mutable_spec();
    if (auto added = session->AddModel(flags.model, kInlineBytes, display, interrupt,
                                       *spec.mutable_model(), plan);
        !added.ok()) {
      return added;
    }
    *spec.mutable_study() = ToTask(flags, *calibration, *evaluation);
    plan.first.push_back(*std::move(calibration));
    plan.first.push_back(*std::move(evaluation));
    return absl::OkStatus();
  };
  const auto outcome = session->Run(fill, interrupt);
  if (!outcome.ok()) return outcome.status();
  if (!outcome->job.has_study()) {
    return session->MissingResult(outcome->job, "a study");
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const std::string text = flags.json
                               ? absl::StrCat(StudyJson(seconds, outcome->job), "\n")
                               : StudyTable(outcome->job.spec().study(), outcome->job.study());
  return WriteOutput(text);
}

}  // namespace

Command AddStudyCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "study", "Round a model to nearest with 1 % of its channels in F16: which ones matter?");
  auto flags = std::make_shared<StudyFlags>();
  command->add_option("model", flags->model, "Directory of the model")
      ->check(Given(kPath))
      ->required();
  command
      ->add_option("--calibration", flags->calibration,
                   "safetensors with input_ids [rows, tokens]: what finds the salient channels")
      ->check(Given(kPath))
      ->required();
  AddScoredTokensOptions(*command, flags->evaluation);
  command
      ->add_option("--calibration-rows", flags->calibration_rows.rows,
                   "Calibrate with the first rows only; 0: all")
      ->check(Count());
  for (CLI::Option* option : AddCodeOptions(*command, "", "", flags->codes)) {
    option->capture_default_str();
  }
  command
      ->add_option("--share", flags->share, "Of the input channels of each Linear that stay in F16")
      ->check(NumberIn(1e-9, 1))
      ->capture_default_str();
  command->add_option("--compute-dtype", flags->compute_dtype, "Of the calibration forward pass")
      ->check(OneOfEnum<v1::ComputeDtype>())
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of the channels chosen at random")
      ->check(Seed())
      ->capture_default_str();
  AddSessionOptions(*command, flags->session);
  AddJsonOption(*command, flags->json);
  return {command, [flags](Interrupt& interrupt) { return RunStudy(*flags, interrupt); }};
}

}  // namespace salient::client
