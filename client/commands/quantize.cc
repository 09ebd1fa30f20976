// Runs salient quantize: a model directory becomes a quantized one.
#include "client/options/quantize.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/jobs/model_upload.h"
#include "client/jobs/result_directory.h"
#include "client/jobs/run.h"
#include "client/jobs/session.h"
#include "client/jobs/token_file.h"
#include "client/options/flag_values.h"
#include "client/report/job.h"
#include "client/terminal/errors.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/terminal/standard_output.h"
#include "core/checkpoint/checkpoint_files.h"

namespace salient::client {
namespace {

struct QuantizeFlags {
  std::string source;
  std::string output;
  std::string calibration;
  TokenRowFlags rows;
  std::string job_id;
  SessionFlags session;
  QuantizeOptions options;
  bool json = false;
};

absl::Status RunQuantize(const QuantizeFlags& flags, Interrupt& interrupt) {
  const absl::Time start = absl::Now();
  // All that can be wrong here is found before anybody is connected to.
  auto task = ToTask(flags.options);
  if (!task.ok()) return UsageError(task.status().message());
  const std::string output = AbsolutePath(flags.output);
  if (auto free = CheckOutputDirectory(output); !free.ok()) return free;
  auto tokens = TokenFile(flags.calibration);
  if (!tokens.ok()) return tokens.status();
  *task->mutable_calibration()->mutable_tokens() = ToTokens(*tokens, flags.rows);
  if (auto good = CheckModelDirectory(flags.source); !good.ok()) return good;

  const auto session = JobSession::Start(flags.session, v1::TASK_KIND_QUANTIZE, output, interrupt);
  if (!session.ok()) return session.status();
  if (auto has = CheckServerHas(session->info(), *task); !has.ok()) {
    return has;
  }

  const auto fill = [&](JobDisplay& display, JobPlan& plan) -> absl::Status {
    plan.request.set_job_id(flags.job_id);
    v1::JobSpec& spec = *plan.request.mutable_spec();
    if (auto added = session->AddModel(flags.source, kInlineBytes, display, interrupt,
                                       *spec.mutable_model(), plan);
        !added.ok()) {
      return added;
    }
    plan.first.push_back(*std::move(tokens));
    if (session->remote()) {
      // A server that reads the directory itself says so.
      const auto files = ListModelDirectory(flags.source);
      if (!files.ok()) return files.status();
      const std::string left_behind = DescribeLeftBehind(*files);
      if (!left_behind.empty()) display.Say(absl::StrCat("warning: ", left_behind));
      plan.download_to = output;
      plan.after_interrupt =
          "To resume, run the same command again: the server keeps the bytes it has";
    } else {
      task->set_output_path(output);
      plan.after_interrupt = "Nothing was written; to start over, run the same command again";
    }
    *spec.mutable_quantize() = *std::move(task);
    return absl::OkStatus();
  };
  const auto outcome = session->Run(fill, interrupt);
  if (!outcome.ok()) return outcome.status();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const std::string text = flags.json
                               ? absl::StrCat(QuantizeJson(flags.output, seconds, *outcome), "\n")
                               : QuantizeTable(flags.source, flags.output, seconds, *outcome);
  return WriteOutput(text);
}

}  // namespace

Command AddQuantizeCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("quantize", "Quantize a Hugging Face model directory");
  auto flags = std::make_shared<QuantizeFlags>();
  command->add_option("source", flags->source, "Directory of the model")
      ->check(Given(kPath))
      ->required();
  command->add_option("output", flags->output, "Directory to make; absent or empty")
      ->check(Given(kPath))
      ->required();
  command
      ->add_option(
          "--calibration", flags->calibration,
          "Token ids: safetensors with input_ids [rows, tokens] and what a tokenizer pads them "
          "by; client/python/tokens.py makes it of texts")
      ->check(Given(kPath))
      ->required();
  command->add_option("--rows", flags->rows.rows, "Use the first rows only; 0: all")
      ->check(Count());
  AddLongRowsOption(*command, flags->rows.allow_long);
  AddQuantizeOptions(*command, flags->options);
  AddSessionOptions(*command, flags->session);
  command->add_option("--job-id", flags->job_id, "Name of the job; default: a random one")
      ->check(Given("a name"));
  AddJsonOption(*command, flags->json);
  return {command, [flags](Interrupt& interrupt) { return RunQuantize(*flags, interrupt); }};
}

}  // namespace salient::client
