// Runs salient tensors: it calls QuantizeTensors with files and writes a file.
#include "client/report/tensors.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/jobs/session.h"
#include "client/options/flag_names.h"
#include "client/options/flag_values.h"
#include "client/options/method.h"
#include "client/tensors/call.h"
#include "client/tensors/group_spec.h"
#include "client/tensors/options.h"
#include "client/tensors/packed_output.h"
#include "client/tensors/plan.h"
#include "client/tensors/progress.h"
#include "client/tensors/request_writer.h"
#include "client/terminal/errors.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/standard_output.h"
#include "client/terminal/status_line.h"
#include "client/terminal/table.h"
#include "client/transfer/channel.h"
#include "client/transfer/embedded.h"
#include "core/checkpoint/checkpoint.h"
#include "core/safetensors/safetensors.h"
#include "proto/wire/chunk.h"

namespace salient::client {
namespace {

constexpr int64_t kMaxGroupsJsonBytes = int64_t{64} << 20;

struct TensorsFlags {
  std::string weights;
  std::string activations;
  std::string output;
  std::string groups_file;
  std::vector<std::string> groups;
  std::string format = "awq-gemm";
  bool overwrite = false;
  SessionFlags session;
  double timeout_seconds = 0;  // 0: none.
  bool json = false;
  MethodOptions options;
};

absl::StatusOr<std::vector<RequestedGroup>> ReadSpecs(const TensorsFlags& flags,
                                                      const SafetensorsFile& activations) {
  if (!flags.groups_file.empty()) {
    const auto text = ReadTextFile(flags.groups_file, kMaxGroupsJsonBytes);
    if (!text.ok()) return text.status();
    return ParseGroupsJson(flags.groups_file, *text);
  }
  if (flags.groups.empty()) return GroupsNamedByActivations(activations.header());
  std::vector<RequestedGroup> specs;
  for (const std::string& text : flags.groups) {
    auto spec = ParseGroupFlag(text);
    if (!spec.ok()) return UsageError(spec.status().message());
    specs.push_back(*std::move(spec));
  }
  return specs;
}

// A file written over one of its own sources would be lost if the call failed.
absl::Status CheckOutput(const TensorsFlags& flags) {
  for (const std::string& input : {flags.weights, flags.activations}) {
    std::error_code error;
    if (std::filesystem::equivalent(input, flags.output, error)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--output ", flags.output, " is an input; expected another file"));
    }
  }
  std::error_code error;
  const auto status = std::filesystem::symlink_status(flags.output, error);
  if (std::filesystem::exists(status) && !flags.overwrite) {
    return absl::AlreadyExistsError(absl::StrCat(
        "--output ", flags.output, " is there already; expected a new file, or --overwrite"));
  }
  return absl::OkStatus();
}

absl::Status WriteResult(const TensorsFlags& flags, double seconds,
                         const std::vector<v1::GroupReport>& reports) {
  if (flags.json) return WriteOutput(ResultJson(flags.output, seconds, reports) + "\n");
  int64_t parameters = 0;
  for (const v1::GroupReport& report : reports) parameters += report.parameters();
  return WriteOutput(absl::StrCat(GroupTable(reports), flags.output, ": ",
                                  FormatCount(static_cast<double>(parameters)), " parameters in ",
                                  FormatSeconds(seconds), "\n"));
}

absl::Status RunTensors(const TensorsFlags& flags, Interrupt& interrupt) {
  const absl::Time start = absl::Now();
  // All that can be wrong here is found before anybody is connected to.
  const auto options = ToMessage(flags.options, flags.format);
  if (!options.ok()) return UsageError(options.status().message());
  const auto weights = SafetensorsFile::Open(flags.weights);
  if (!weights.ok()) return weights.status();
  const auto activations = SafetensorsFile::Open(flags.activations);
  if (!activations.ok()) return activations.status();
  const auto specs = ReadSpecs(flags, *activations);
  if (!specs.ok()) return specs.status();
  const auto plan = MakeTensorsPlan(*weights, *activations, *specs);
  if (!plan.ok()) return plan.status();
  if (auto free = CheckOutput(flags); !free.ok()) return free;
  auto output = PackedOutput::Create(flags.output);
  if (!output.ok()) return output.status();

  std::optional<EmbeddedServer> embedded;
  TensorsServer server;
  server.address = flags.session.server;
  if (flags.timeout_seconds > 0) server.timeout = absl::Seconds(flags.timeout_seconds);
  if (flags.session.server.empty()) {
    auto started = EmbeddedServer::Start(
        {.workers = flags.session.workers, .instruction_set = flags.session.instruction_set});
    if (!started.ok()) return started.status();
    embedded = *std::move(started);
    server.address = embedded->Address();
  }
  server.channel = OpenChannel(server.address);
  const auto info = FetchServerInfo(server.channel, server.address, kAnswerTimeout, interrupt);
  if (!info.ok()) return info.status();
  const int64_t allowed = info->limits().max_chunk_bytes();
  const int64_t chunk_bytes = allowed > 0 ? std::min(allowed, kChunkBytes) : kChunkBytes;

  const TensorsInput input = {*plan, *weights, *activations, *options, chunk_bytes};
  auto reports = [&] {
    Progress progress(stderr, StyleFor(stderr),
                      {plan->Bytes(), static_cast<int64_t>(plan->groups.size())});
    return CallQuantizeTensors(server, input, *output, progress, interrupt);
  }();
  if (!reports.ok()) return InFlags(reports.status());
  if (auto committed = output->Commit(FileMetadata(*options)); !committed.ok()) return committed;
  return WriteResult(flags, absl::ToDoubleSeconds(absl::Now() - start), *reports);
}

}  // namespace

Command AddTensorsCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("tensors", "Quantize Linears from weights and their input activations");
  auto flags = std::make_shared<TensorsFlags>();
  command->add_option("weights", flags->weights, "safetensors with MODULE.weight [out, in]")
      ->check(Given(kPath))
      ->required();
  command
      ->add_option("inputs", flags->activations,
                   "safetensors with GROUP or GROUP.input [rows, tokens, in]; "
                   "GROUP.lengths [rows] for shorter rows")
      ->check(Given(kPath))
      ->required();
  command->add_option("-o,--output", flags->output, "safetensors to write")
      ->check(Given(kPath))
      ->required();
  CLI::Option* file =
      command
          ->add_option("--groups", flags->groups_file, "JSON: [{name, linears, input, tied_heads}]")
          ->check(Given(kPath));
  command
      ->add_option("--group", flags->groups,
                   "NAME=LINEAR[,LINEAR...] that read one input; repeatable. "
                   "Default: a group of one Linear for each activations tensor")
      ->take_all()
      ->allow_extra_args(false)
      ->excludes(file);
  command->add_flag("--overwrite", flags->overwrite, "Replace the output if it is there");
  AddLayoutOptions(*command, flags->format, flags->options.activations);
  AddSessionOptions(*command, flags->session);
  command
      ->add_option("--timeout", flags->timeout_seconds,
                   "How long the call may take, in seconds or with a unit; 0: no limit")
      ->transform(Seconds())
      ->capture_default_str();
  AddJsonOption(*command, flags->json);
  AddMethodOptions(*command, flags->options);
  return {command, [flags](Interrupt& interrupt) { return RunTensors(*flags, interrupt); }};
}

}  // namespace salient::client
