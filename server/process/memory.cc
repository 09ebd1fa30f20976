#include "server/process/memory.h"

#include <malloc.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace salient {
namespace {

// Reads a line of /proc/self/status: "VmHWM:     1234 kB".
int64_t StatusBytes(absl::string_view field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int64_t kibibytes = 0;
    if (words.size() >= 2 && words[0] == field && absl::SimpleAtoi(words[1], &kibibytes)) {
      return kibibytes << 10;
    }
  }
  return 0;
}

}  // namespace

int64_t ResidentMemoryBytes() { return StatusBytes("VmRSS:"); }

int64_t PeakResidentMemoryBytes() { return StatusBytes("VmHWM:"); }

void TrimFreeMemory() { malloc_trim(0); }

TrimmedWork::~TrimmedWork() {
  constexpr int64_t kNoticeableBytes = int64_t{8} << 20;
  if (ResidentMemoryBytes() - resident_bytes_ > kNoticeableBytes) TrimFreeMemory();
}

void ResetPeakResidentMemory() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace salient
