// salient info: what a server is, has and allows.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/jobs/task_kind.h"
#include "client/options/engine.h"
#include "client/options/enum_text.h"
#include "client/options/server_address.h"
#include "client/terminal/errors.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/json_text.h"
#include "client/terminal/standard_output.h"
#include "client/terminal/table.h"
#include "client/transfer/channel.h"
#include "client/transfer/embedded.h"

namespace salient::client {
namespace {

constexpr size_t kMaxCellBytes = 256;

struct InfoFlags {
  std::string server = kDefaultServer;
  bool families = false;
  bool embedded = false;  // Nobody named a server, and what is asked is the same without one.
  bool json = false;
};

// Returns the values as flags spell them.
template <typename Enum, typename Name>
std::vector<std::string> Names(const google::protobuf::RepeatedField<int>& values, Name name) {
  std::vector<std::string> names;
  for (const int value : values) names.push_back(name(static_cast<Enum>(value)));
  return names;
}

template <typename Enum>
std::vector<std::string> AsFlags(const google::protobuf::RepeatedField<int>& values) {
  return Names<Enum>(values, [](Enum value) { return FlagText(value); });
}

struct Capabilities {
  explicit Capabilities(const v1::GetServerInfoResponse& info)
      : scales(AsFlags<v1::Scale>(info.scales())),
        ranges(AsFlags<v1::Range>(info.ranges())),
        roundings(AsFlags<v1::Rounding>(info.roundings())),
        output_formats(AsFlags<v1::OutputFormat>(info.output_formats())),
        activation_formats(AsFlags<v1::ActivationFormat>(info.activation_formats())),
        engines(Names<v1::Engine>(info.engines(), EngineText)),
        tasks(Names<v1::TaskKind>(info.task_kinds(), TaskKindText)),
        libraries(info.library_versions().begin(), info.library_versions().end()) {}

  std::vector<std::string> scales;
  std::vector<std::string> ranges;
  std::vector<std::string> roundings;
  std::vector<std::string> output_formats;
  std::vector<std::string> activation_formats;
  std::vector<std::string> engines;
  std::vector<std::string> tasks;
  std::map<std::string, std::string> libraries;  // In a fixed order.
};

std::string InfoTable(const v1::GetServerInfoResponse& info) {
  const Capabilities has(info);
  const v1::ServerLimits& limits = info.limits();
  std::vector<std::string> libraries;
  for (const auto& [name, version] : has.libraries) {
    libraries.push_back(absl::StrCat(name, " ", version));
  }
  Table table({{"what", Table::Align::kLeft}, {"value", Table::Align::kLeft}});
  const auto add = [&table](std::string what, absl::string_view value) {
    table.AddRow({std::move(what), Printable(value, kMaxCellBytes)});
  };
  add("version", info.version());
  add("scales", absl::StrJoin(has.scales, ", "));
  add("ranges", absl::StrJoin(has.ranges, ", "));
  add("roundings", absl::StrJoin(has.roundings, ", "));
  add("output formats", absl::StrJoin(has.output_formats, ", "));
  add("activation formats", absl::StrJoin(has.activation_formats, ", "));
  add("engines", absl::StrJoin(has.engines, ", "));
  add("tasks of jobs", absl::StrJoin(has.tasks, ", "));
  add("instruction path", info.instruction_path());
  add("numerics id", info.numerics_id());
  add("workers", absl::StrCat(info.worker_count()));
  add("libraries", absl::StrJoin(libraries, ", "));
  add("largest message", FormatBytes(limits.max_message_bytes()));
  add("largest chunk", FormatBytes(limits.max_chunk_bytes()));
  add("memory of a call", FormatBytes(limits.call_memory_bytes()));
  add("calls at a time", absl::StrCat(limits.max_active_calls()));
  add("Linears in a group", absl::StrCat(limits.max_linears_per_group()));
  add("largest in/out_features", absl::StrCat(limits.max_features()));
  add("idle timeout", absl::StrCat(limits.idle_timeout_seconds(), " s"));
  return table.Render();
}

std::string FamiliesTable(const v1::GetServerInfoResponse& info) {
  Table table({{"architecture", Table::Align::kLeft}, {"model_type", Table::Align::kLeft}});
  for (const v1::ModelFamily& family : info.families()) {
    table.AddRow({Printable(family.architecture(), kMaxCellBytes),
                  Printable(family.model_type(), kMaxCellBytes)});
  }
  return table.Render();
}

std::string InfoJson(const v1::GetServerInfoResponse& info) {
  const Capabilities has(info);
  const v1::ServerLimits& limits = info.limits();
  JsonObject libraries;
  for (const auto& [name, version] : has.libraries) libraries.AddString(name, version);
  JsonObject limits_json;
  limits_json.AddInteger("max_message_bytes", limits.max_message_bytes())
      .AddInteger("max_chunk_bytes", limits.max_chunk_bytes())
      .AddInteger("call_memory_bytes", limits.call_memory_bytes())
      .AddInteger("max_active_calls", limits.max_active_calls())
      .AddInteger("max_linears_per_group", limits.max_linears_per_group())
      .AddInteger("max_features", limits.max_features())
      .AddNumber("idle_timeout_seconds", limits.idle_timeout_seconds());
  std::vector<JsonObject> families;
  for (const v1::ModelFamily& family : info.families()) {
    families.push_back(JsonObject()
                           .AddString("architecture", family.architecture())
                           .AddString("model_type", family.model_type()));
  }
  return JsonObject()
      .AddString("version", info.version())
      .AddObject("limits", limits_json)
      .AddStrings("scales", has.scales)
      .AddStrings("ranges", has.ranges)
      .AddStrings("roundings", has.roundings)
      .AddStrings("output_formats", has.output_formats)
      .AddStrings("activation_formats", has.activation_formats)
      .AddStrings("engines", has.engines)
      .AddStrings("tasks", has.tasks)
      .AddArray("families", families)
      .AddString("instruction_path", info.instruction_path())
      .AddString("numerics_id", info.numerics_id())
      .AddInteger("worker_count", info.worker_count())
      .AddObject("library_versions", libraries)
      .Text();
}

absl::Status RunInfo(const InfoFlags& flags, Interrupt& interrupt) {
  std::optional<EmbeddedServer> embedded;
  if (flags.embedded) {
    auto started = EmbeddedServer::Start({.workers = 1});
    if (!started.ok()) return started.status();
    embedded.emplace(*std::move(started));
  }
  const std::string address = embedded.has_value() ? embedded->Address() : flags.server;
  const auto info = FetchServerInfo(OpenChannel(address), address, kAnswerTimeout, interrupt);
  if (!info.ok()) return info.status();
  if (flags.json) return WriteOutput(InfoJson(*info) + "\n");
  return WriteOutput(flags.families ? FamiliesTable(*info) : InfoTable(*info));
}

}  // namespace

Command AddInfoCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Limits, capabilities and versions of a server");
  auto flags = std::make_shared<InfoFlags>();
  const CLI::Option* server = AddServerOption(*command, flags->server);
  command->add_flag("--families", flags->families,
                    "Only the architectures of models that are known; without --server those of "
                    "this program");
  AddJsonOption(*command, flags->json);
  return {command, [flags, server](Interrupt& interrupt) {
            flags->embedded = flags->families && server->empty();
            return RunInfo(*flags, interrupt);
          }};
}

}  // namespace salient::client
