// Runs salient estimate: it tells what quantizing a model would cost, before it costs it.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/jobs/model_upload.h"
#include "client/jobs/run.h"
#include "client/jobs/session.h"
#include "client/jobs/token_file.h"
#include "client/options/flag_values.h"
#include "client/options/quantize.h"
#include "client/report/job.h"
#include "client/terminal/errors.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/terminal/standard_output.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"

namespace salient::client {
namespace {

struct EstimateFlags {
  std::string source;
  std::string calibration;  // If it is empty tokens are blank.
  TokenRowFlags rows;       // 0 stands for all of the file, or the default.
  int64_t tokens = 0;       // It is that of a blank row; 0 stands for the default.
  SessionFlags session;
  QuantizeOptions options;
  bool json = false;
};

constexpr int64_t kBlankRows = 128;
constexpr int64_t kBlankTokens = 512;

// Returns the tokens of a blank row, fewer for a model of shorter context. A config.json that is
// not good is the server's to judge.
int64_t BlankRowTokens(const std::string& model) {
  const std::string path = absl::StrCat(model, "/", kConfigName);
  const auto text = ReadTextFile(path, kMaxConfigBytes);
  if (!text.ok()) return kBlankTokens;
  const auto config = ParseConfigJson(path, *text);
  if (!config.ok()) return kBlankTokens;
  const JsonValue* positions = config->Find("max_position_embeddings");
  const std::optional<int64_t> most = positions != nullptr ? positions->AsInt64() : std::nullopt;
  return std::min(kBlankTokens, std::max<int64_t>(1, most.value_or(kBlankTokens)));
}

int64_t BlankRows(const EstimateFlags& flags) {
  return flags.rows.rows > 0 ? flags.rows.rows : kBlankRows;
}

// Says which values nobody gave, so that people know what the figures are of; else empty.
std::string AssumedText(const EstimateFlags& flags, int64_t row_tokens) {
  if (!flags.calibration.empty()) return "";
  return absl::StrCat(BlankRows(flags), " calibration rows of ", row_tokens,
                      " tokens, for want of --calibration");
}

absl::Status RunEstimate(const EstimateFlags& flags, Interrupt& interrupt) {
  auto task = ToTask(flags.options);
  if (!task.ok()) return UsageError(task.status().message());
  const int64_t row_tokens = flags.tokens > 0 ? flags.tokens : BlankRowTokens(flags.source);
  auto tokens = flags.calibration.empty() ? BlankTokens(BlankRows(flags), row_tokens)
                                          : TokenFile(flags.calibration);
  if (!tokens.ok()) return tokens.status();
  *task->mutable_calibration()->mutable_tokens() = ToTokens(*tokens, flags.rows);
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
                                : EstimateTable(flags.source, job->job.estimate(),
                                                AssumedText(flags, row_tokens)));
}

}  // namespace

Command AddEstimateCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("estimate", "What quantizing a model would cost; changes nothing");
  auto flags = std::make_shared<EstimateFlags>();
  command->add_option("source", flags->source, "Directory of the model")
      ->check(Given(kPath))
      ->required();
  CLI::Option* calibration =
      command
          ->add_option("--calibration", flags->calibration,
                       "safetensors with input_ids; default: blank tokens of the shape below")
          ->check(Given(kPath));
  command
      ->add_option("--rows", flags->rows.rows,
                   absl::StrCat("Calibration rows; 0: all of the file, or ", kBlankRows))
      ->check(Count());
  command
      ->add_option("--tokens", flags->tokens,
                   absl::StrCat("Tokens of a blank row; default: ", kBlankTokens,
                                ", or the model's max_position_embeddings if that is less"))
      ->check(IntegerIn(1, int64_t{1} << 30))
      ->excludes(calibration);
  AddLongRowsOption(*command, flags->rows.allow_long);
  AddQuantizeOptions(*command, flags->options);
  AddSessionOptions(*command, flags->session);
  AddJsonOption(*command, flags->json);
  return {command, [flags](Interrupt& interrupt) { return RunEstimate(*flags, interrupt); }};
}

}  // namespace salient::client
