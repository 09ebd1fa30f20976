#include "client/tensors/progress.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/report/tensors.h"
#include "client/terminal/errors.h"
#include "client/terminal/table.h"

namespace salient::client {
namespace {

double Share(int64_t part, int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(std::max<int64_t>(1, whole));
}

}  // namespace

Progress::Progress(std::FILE* out, Style style, ProgressTotals totals)
    : totals_(totals), start_(absl::Now()), line_(out, style) {}

Progress::~Progress() {
  absl::MutexLock lock(&mutex_);
  // The last state stays to be read.
  const bool counted = bytes_sent_ > 0 || groups_done_ > 0;
  if (line_.style() == Style::kBar && counted) line_.Draw(BarText());
}

void Progress::AddBytesSent(int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  bytes_sent_ += bytes;
  if (line_.Due()) line_.Draw(BarText());
}

void Progress::AddGroup(const v1::GroupReport& report) {
  absl::MutexLock lock(&mutex_);
  ++groups_done_;
  parameters_done_ += report.parameters();
  if (line_.style() == Style::kBar) {
    line_.Draw(BarText());
    return;
  }
  line_.Print(absl::StrFormat("group %d of %d done: %s, %s, loss/RTN %s", groups_done_,
                              totals_.groups, Printable(report.name(), kMaxSentenceBytes),
                              RatioText(report.candidate()), LossOverRtnText(report)));
}

std::string Progress::BarText() const {
  const double seconds = std::max(1e-3, absl::ToDoubleSeconds(absl::Now() - start_));
  // Sending and computing overlap; whoever is behind says how far the call is.
  const double share =
      std::min(Share(bytes_sent_, totals_.bytes), Share(groups_done_, totals_.groups));
  return absl::StrFormat("%s %s of %s sent, %d of %d groups, %s parameters/s", BarCells(share),
                         FormatBytes(bytes_sent_), FormatBytes(totals_.bytes), groups_done_,
                         totals_.groups,
                         FormatCount(static_cast<double>(parameters_done_) / seconds));
}

}  // namespace salient::client
