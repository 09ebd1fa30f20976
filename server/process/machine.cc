#include "server/process/machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace salient {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<int64_t> Number(absl::string_view text) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) return std::nullopt;  // It is "max".
  return value;
}

// Returns the directories in which a controller's files may stand, innermost first. Inside a
// container the path of /proc/self/cgroup is often the host's, and the files are at the mount's
// root.
std::vector<std::string> CgroupDirectories(const std::string& root, absl::string_view controller) {
  std::vector<std::string> directories;
  std::ifstream file(absl::StrCat(root, "/proc/self/cgroup"));
  std::string line;
  while (std::getline(file, line)) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    const bool v1 =
        std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
    const bool v2 = parts[0] == "0" && parts[1].empty();
    if (!v1 && !v2) continue;
    const std::string mount = v1 ? absl::StrCat(root, "/sys/fs/cgroup/", controller)
                                 : absl::StrCat(root, "/sys/fs/cgroup");
    // A limit of any ancestor holds.
    std::string path = parts[2];
    while (!path.empty() && path != "/") {
      directories.push_back(absl::StrCat(mount, path));
      path.erase(path.rfind('/'));
    }
    directories.push_back(mount);
  }
  return directories;
}

// Processors as the quota of the cgroup allows, by either version's files.
std::optional<double> CpuQuota(const std::string& root) {
  std::optional<double> least;
  const auto take = [&least](std::optional<int64_t> quota, std::optional<int64_t> period) {
    if (!quota.has_value() || !period.has_value() || *quota <= 0 || *period <= 0) return;
    const double processors = static_cast<double>(*quota) / static_cast<double>(*period);
    least = std::min(least.value_or(processors), processors);
  };
  for (const std::string& directory : CgroupDirectories(root, "cpu")) {
    const std::string line = FirstLine(absl::StrCat(directory, "/cpu.max"));
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words.size() == 2) take(Number(words[0]), Number(words[1]));
    take(Number(FirstLine(absl::StrCat(directory, "/cpu.cfs_quota_us"))),
         Number(FirstLine(absl::StrCat(directory, "/cpu.cfs_period_us"))));
  }
  return least;
}

}  // namespace

int AvailableProcessors(const std::string& root) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int processors = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) processors = std::max(1, CPU_COUNT(&set));
  if (const std::optional<double> quota = CpuQuota(root); quota.has_value()) {
    processors = std::min(processors, std::max(1, static_cast<int>(std::ceil(*quota))));
  }
  return processors;
}

int64_t AvailableMemoryBytes(const std::string& root) {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  for (const std::string& directory : CgroupDirectories(root, "memory")) {
    for (const char* name : {"/memory.max", "/memory.limit_in_bytes"}) {
      const std::optional<int64_t> limit = Number(FirstLine(directory + name));
      if (limit.has_value() && *limit > 0) bytes = std::min(bytes, *limit);
    }
  }
  return bytes;
}

int64_t AvailableDescriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  // RLIM_INFINITY is more than a signed number holds.
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT64_MAX));
}

DescriptorLimit RaiseDescriptorLimit() {
  DescriptorLimit raised;
  raised.before = AvailableDescriptors();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);  // If it is refused, the limit stays.
  }
  raised.now = AvailableDescriptors();
  return raised;
}

}  // namespace salient
