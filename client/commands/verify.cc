// salient verify: how well a result predicts, beside its source and round-to-nearest.
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
#include "client/options/flag_values.h"
#include "client/report/evaluation.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/terminal/standard_output.h"

namespace salient::client {
namespace {

struct VerifyFlags {
  std::string result;
  std::string against;  // If it is empty only the perplexity is told.
  ScoredTokens evaluation;
  CodeFlags rtn;  // The result says what is not given.
  bool no_rtn = false;
  SessionFlags session;
  bool json = false;
};

absl::Status RunVerify(const VerifyFlags& flags, Interrupt& interrupt) {
  const absl::Time start = absl::Now();
  auto tokens = TokenFile(flags.evaluation.file);
  if (!tokens.ok()) return tokens.status();
  if (auto good = CheckModelDirectory(flags.result); !good.ok()) return good;
  const bool compared = !flags.against.empty();
  if (compared) {
    if (auto good = CheckModelDirectory(flags.against); !good.ok()) return good;
  }
  const auto session = JobSession::Start(flags.session, v1::TASK_KIND_EVALUATE, "", interrupt);
  if (!session.ok()) return session.status();

  const auto fill = [&](JobDisplay& display, JobPlan& plan) -> absl::Status {
    v1::JobSpec& spec = *plan.request.mutable_spec();
    v1::EvaluateTask& task = *spec.mutable_evaluate();
    const int64_t inline_bytes = kInlineBytes / (compared ? 2 : 1);
    auto added = session->AddModel(flags.result, inline_bytes, display, interrupt,
                                   *spec.mutable_model(), plan);
    if (added.ok() && compared) {
      added = session->AddModel(flags.against, inline_bytes, display, interrupt,
                                *task.mutable_reference(), plan);
    }
    if (!added.ok()) return added;
    *task.mutable_tokens() = ToTokens(*tokens, flags.evaluation.rows);
    plan.first.push_back(*std::move(tokens));
    if (flags.no_rtn) {
      task.mutable_round_to_nearest()->set_bits(-1);
    } else if (flags.rtn.bits != 0 || flags.rtn.group_size != 0) {
      *task.mutable_round_to_nearest() = ToWeightFormat(flags.rtn);
    }
    return absl::OkStatus();
  };
  const auto outcome = session->Run(fill, interrupt);
  if (!outcome.ok()) return outcome.status();
  if (!outcome->job.has_evaluation()) {
    return session->MissingResult(outcome->job, "an evaluation");
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const v1::Evaluation& evaluation = outcome->job.evaluation();
  const std::string text =
      flags.json ? absl::StrCat(EvaluationJson(seconds, evaluation), "\n")
                 : absl::StrCat(EvaluationTable(flags.result, flags.against, evaluation),
                                NearestText(outcome->job.spec().evaluate(), evaluation),
                                "computed in f32, whatever config.json says\n");
  return WriteOutput(text);
}

}  // namespace

Command AddVerifyCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("verify", "Perplexity of a model, and how far it is from its source");
  auto flags = std::make_shared<VerifyFlags>();
  command->add_option("result", flags->result, "Directory of the model")
      ->check(Given(kPath))
      ->required();
  CLI::Option* against =
      command->add_option("--against", flags->against, "Directory of the model it was made from")
          ->check(Given(kPath));
  AddScoredTokensOptions(*command, flags->evaluation);
  CLI::Option* no_rtn =
      command->add_flag("--no-rtn", flags->no_rtn, "Do not score the source rounded to nearest");
  const std::string of = "Of round-to-nearest, default as the result says: ";
  for (CLI::Option* option : AddCodeOptions(*command, "rtn-", of, flags->rtn)) {
    option->needs(against)->excludes(no_rtn);
  }
  AddSessionOptions(*command, flags->session);
  AddJsonOption(*command, flags->json);
  return {command, [flags](Interrupt& interrupt) { return RunVerify(*flags, interrupt); }};
}

}  // namespace salient::client
