#include "server/observe/process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace salient {
namespace {

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

double BootTimeSeconds() {
  for (absl::string_view line : absl::StrSplit(ReadFile("/proc/stat"), '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    double seconds = 0;
    if (words.size() == 2 && words[0] == "btime" && absl::SimpleAtod(words[1], &seconds)) {
      return seconds;
    }
  }
  return 0;
}

// Fields of /proc/self/stat after the name, which may contain spaces: [0] is field 3 of proc(5).
std::vector<double> StatFields() {
  const std::string text = ReadFile("/proc/self/stat");
  const size_t name_end = text.rfind(')');
  std::vector<double> fields;
  if (name_end == std::string::npos) return fields;
  const absl::string_view rest = absl::string_view(text).substr(name_end + 1);
  for (absl::string_view word : absl::StrSplit(rest, ' ', absl::SkipEmpty())) {
    double value = 0;
    if (!absl::SimpleAtod(word, &value)) value = 0;
    fields.push_back(value);
  }
  return fields;
}

}  // namespace

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const std::vector<double> fields = StatFields();
  if (fields.size() > 21) {
    stats.cpu_seconds = (fields[11] + fields[12]) / ticks;
    stats.start_time_seconds = BootTimeSeconds() + fields[19] / ticks;
    stats.virtual_memory_bytes = fields[20];
    stats.resident_memory_bytes = fields[21] * static_cast<double>(sysconf(_SC_PAGESIZE));
  }
  std::error_code error;
  std::filesystem::directory_iterator fds("/proc/self/fd", error);
  if (!error) stats.open_fds = static_cast<double>(std::distance(begin(fds), end(fds)));
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) stats.max_fds = static_cast<double>(limit.rlim_cur);
  return stats;
}

}  // namespace salient
