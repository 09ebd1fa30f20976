// salient study: what a few salient channels in F16 are worth.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/command.h"
#include "client/command_flags.h"
#include "client/job_display.h"
#include "client/job_run.h"
#include "client/job_session.h"
#include "client/model_upload.h"
#include "client/study_report.h"
#include "client/token_file.h"

namespace salient::client {
namespace {

struct StudyFlags {
  std::string model;
  std::string calibration;
  std::string evaluation;
  int64_t rows = 0;              // to score; 0: all
  int64_t calibration_rows = 0;  // 0: all
  int bits = 3;
  int64_t group_size = 128;
  bool symmetric = false;
  double share = 0.01;
  std::string compute_dtype = "bf16";
  uint64_t seed = 0;
  SessionFlags session;
  bool json = false;
};

v1::StudyTask ToTask(const StudyFlags& flags, const v1::Digest& calibration,
                     const v1::Digest& evaluation) {
  v1::StudyTask task;
  *task.mutable_calibration()->mutable_tokens() = calibration;
  task.mutable_calibration()->set_max_rows(flags.calibration_rows);
  *task.mutable_evaluation()->mutable_tokens() = evaluation;
  task.mutable_evaluation()->set_max_rows(flags.rows);
  task.set_salient_share(flags.share);
  task.mutable_format()->set_bits(flags.bits);
  task.mutable_format()->set_group_size(flags.group_size);
  task.mutable_format()->set_symmetric(flags.symmetric);
  task.set_compute_dtype(flags.compute_dtype == "f32" ? v1::COMPUTE_DTYPE_F32
                                                      : v1::COMPUTE_DTYPE_BF16);
  task.set_seed(flags.seed);
  return task;
}

absl::Status RunStudy(const StudyFlags& flags, Interrupt& interrupt) {
  const absl::Time start = absl::Now();
  auto calibration = TokenFile(flags.calibration);
  if (!calibration.ok()) return calibration.status();
  auto evaluation = TokenFile(flags.evaluation);
  if (!evaluation.ok()) return evaluation.status();
  if (auto good = CheckModelDirectory(flags.model); !good.ok()) return good;
  const auto session = JobSession::Start(flags.session, v1::TASK_KIND_STUDY, "", interrupt);
  if (!session.ok()) return session.status();

  auto outcome = [&]() -> absl::StatusOr<FinishedJob> {
    JobDisplay display(stderr, StyleFor(stderr));
    JobPlan plan;
    v1::JobSpec& spec = *plan.request.mutable_spec();
    if (auto added = session->AddModel(flags.model, kInlineBytes, display, interrupt,
                                       *spec.mutable_model(), plan);
        !added.ok()) {
      return added;
    }
    *spec.mutable_study() = ToTask(flags, calibration->digest, evaluation->digest);
    plan.first.push_back(*std::move(calibration));
    plan.first.push_back(*std::move(evaluation));
    plan.after_interrupt = session->remote()
                               ? "Run the same command again: the server keeps the bytes it has"
                               : "Run the same command again";
    return RunJob(session->server(), std::move(plan), display, interrupt);
  }();
  if (!outcome.ok()) return outcome.status();
  if (!outcome->job.has_study()) {
    return absl::InternalError(absl::StrCat("the server at ", session->server().address, " ended ",
                                            outcome->job.name(), " without a study"));
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const std::string text = flags.json
                               ? absl::StrCat(StudyJson(seconds, outcome->job), "\n")
                               : StudyTable(outcome->job.spec().study(), outcome->job.study());
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

Command AddStudyCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "study", "Round a model to nearest with 1 % of its channels in F16: which ones matter?");
  auto flags = std::make_shared<StudyFlags>();
  command->add_option("model", flags->model, "Directory of the model")->required();
  command
      ->add_option("--calibration", flags->calibration,
                   "safetensors with input_ids [rows, tokens]: what finds the salient channels")
      ->required();
  command
      ->add_option("--evaluation", flags->evaluation,
                   "The same: what is scored; lengths [rows] for shorter rows")
      ->required();
  command->add_option("--rows", flags->rows, "Score the first rows only; 0: all")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--calibration-rows", flags->calibration_rows,
                   "Calibrate with the first rows only; 0: all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--bits", flags->bits, "Width of a code")
      ->check(CLI::Range(2, 8))
      ->capture_default_str();
  command
      ->add_option("--group-size", flags->group_size,
                   "in_features per scale and zero point; -1: all of them")
      ->check(CLI::IsMember({-1}) | CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  command->add_flag("--symmetric", flags->symmetric, "Zero points fixed at mid-code");
  command
      ->add_option("--share", flags->share, "Of the input channels of each Linear that stay in F16")
      ->check(CLI::Range(1e-9, 1.0))
      ->capture_default_str();
  command->add_option("--compute-dtype", flags->compute_dtype, "Of the calibration forward pass")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of the channels chosen at random")
      ->capture_default_str();
  AddSessionOptions(*command, flags->session);
  command->add_flag("--json", flags->json, "End with one JSON object on standard output");
  return {command, [flags](Interrupt& interrupt) { return RunStudy(*flags, interrupt); }};
}

}  // namespace salient::client
