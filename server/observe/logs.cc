#include "server/observe/logs.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

std::atomic<spdlog::logger*> process_logger{nullptr};

void Write(spdlog::level::level_enum level, absl::string_view text) {
  spdlog::logger* logger = process_logger.load(std::memory_order_acquire);
  if (logger != nullptr) logger->log(level, spdlog::string_view_t(text.data(), text.size()));
}

spdlog::level::level_enum LevelOf(absl::string_view name) {
  return spdlog::level::from_str(std::string(name));
}

}  // namespace

bool IsLogLevel(absl::string_view level) {
  return level == "debug" || level == "info" || level == "warning" || level == "error" ||
         level == "off";
}

void StartLogging(absl::string_view level) {
  // Lives as long as the process: threads of libraries may log until its end.
  auto* logger = new spdlog::logger("salientd", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  logger->set_level(LevelOf(level));
  logger->flush_on(spdlog::level::info);
  process_logger.store(logger, std::memory_order_release);
}

void LogInfo(absl::string_view message) { Write(spdlog::level::info, message); }
void LogWarning(absl::string_view message) { Write(spdlog::level::warn, message); }

std::string CallText(const CallLine& line) {
  std::string text =
      absl::StrFormat("call method=%s peer=%s code=%s seconds=%.3f bytes_in=%d bytes_out=%d",
                      line.method, line.peer, absl::StatusCodeToString(line.status.code()),
                      absl::ToDoubleSeconds(line.elapsed), line.bytes_in, line.bytes_out);
  if (line.summary.groups > 0 || line.summary.tokens > 0) {
    absl::StrAppendFormat(&text, " groups=%d parameters=%d tokens=%d", line.summary.groups,
                          line.summary.parameters, line.summary.tokens);
  }
  if (!line.status.ok()) {
    absl::StrAppend(&text, " reason=", Name(DetailsOf(line.status).reason), " message=\"",
                    absl::Utf8SafeCEscape(line.status.message().substr(0, kMaxLoggedBytes)), "\"");
  }
  return text;
}

void LogCall(const CallLine& line) {
  const spdlog::level::level_enum level = line.status.ok()                ? spdlog::level::info
                                          : absl::IsInternal(line.status) ? spdlog::level::err
                                                                          : spdlog::level::warn;
  Write(level, CallText(line));
}

}  // namespace salient
