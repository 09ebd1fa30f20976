#include "server/watchdog.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/listen/descriptor.h"
#include "server/observe/logs.h"

namespace salient {

Watchdog::Watchdog(Checks checks, absl::AnyInvocable<void(Condition)> tell,
                   absl::AnyInvocable<void()> give_up)
    : checks_(std::move(checks)), tell_(std::move(tell)), give_up_(std::move(give_up)) {}

bool Watchdog::LooksWritable() {
  const bool was = GetStats().condition.store_writable;
  const absl::Status status = checks_.store();
  if (was && !status.ok()) {
    LogWarning(
        absl::StrCat("the store cannot be written, so uploads and jobs fail: ", status.message()));
  } else if (!was && status.ok()) {
    LogInfo("the store can be written again");
  }
  return status.ok();
}

bool Watchdog::LooksReachable() {
  const absl::Status status = checks_.connection();
  if (status.ok() || absl::IsResourceExhausted(status)) {
    if (failures_ >= kFailuresUntilUnreachable) LogInfo("new connections are answered again");
    failures_ = 0;
    return true;
  }
  ++failures_;
  {
    const MutexLock lock(mu_);
    ++stats_.failed_self_checks_total;
  }
  LogWarning(absl::StrCat("a connection of the server to itself failed, the ", failures_,
                          ". in a row: ", status.message()));
  if (failures_ == kFailuresUntilGivenUp && give_up_ != nullptr) give_up_();
  return failures_ < kFailuresUntilUnreachable;
}

void Watchdog::Look() {
  const Condition now = {LooksWritable(), LooksReachable()};
  Condition before;
  {
    const MutexLock lock(mu_);
    before = std::exchange(stats_.condition, now);
  }
  const bool same =
      before.store_writable == now.store_writable && before.reachable == now.reachable;
  if (!same && tell_ != nullptr) tell_(now);
}

Watchdog::Stats Watchdog::GetStats() const {
  const MutexLock lock(mu_);
  return stats_;
}

absl::Status CheckWritable(const std::string& directory) {
  // The file loses its name before it has a byte: a process that is killed leaves an empty file at
  // most.
  const std::string path = absl::StrCat(directory, "/.written");
  const Descriptor file(
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  const bool written = file.is_open() && unlink(path.c_str()) == 0 &&
                       write(file.number(), "1", 1) == 1 && fdatasync(file.number()) == 0;
  const int error = written ? 0 : errno;
  const bool needs_room = error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE;
  if (error == 0 || needs_room) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(error)));
}

}  // namespace salient
