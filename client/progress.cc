#include "client/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/errors.h"
#include "client/table.h"
#include "client/tensors_report.h"

namespace salient {
namespace {

constexpr int64_t kBarCells = 24;
constexpr size_t kMaxNameBytes = 512;
// Often enough to look alive, seldom enough to cost nothing over a slow terminal.
constexpr absl::Duration kRedrawInterval = absl::Milliseconds(100);

// A line that wraps cannot be drawn over.
size_t LineLength(std::FILE* out) {
  winsize size = {};
  const bool known = ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return known ? size.ws_col - 1u : 120u;
}

}  // namespace

Progress::Style StyleFor(std::FILE* out) {
  return isatty(fileno(out)) != 0 ? Progress::Style::kBar : Progress::Style::kLines;
}

Progress::Progress(std::FILE* out, Style style, ProgressTotals totals)
    : out_(out), style_(style), totals_(totals), start_(absl::Now()) {}

Progress::~Progress() {
  absl::MutexLock lock(&mutex_);
  if (style_ != Style::kBar || drawn_ == absl::InfinitePast()) return;
  Draw(absl::Now());
  std::fputs("\n", out_);
  std::fflush(out_);
}

void Progress::AddBytesSent(int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  bytes_sent_ += bytes;
  if (style_ != Style::kBar) return;
  const absl::Time now = absl::Now();
  if (now - drawn_ >= kRedrawInterval) Draw(now);
}

void Progress::AddGroup(const v1::GroupReport& report) {
  absl::MutexLock lock(&mutex_);
  ++groups_done_;
  parameters_done_ += report.parameters();
  if (style_ == Style::kBar) {
    Draw(absl::Now());
    return;
  }
  absl::FPrintF(out_, "group %d of %d done: %s, %s, loss/RTN %s\n", groups_done_, totals_.groups,
                Printable(report.name(), kMaxNameBytes), RatioText(report.candidate()),
                LossOverRtnText(report));
  std::fflush(out_);
}

std::string Progress::BarText(absl::Time now) const {
  const double seconds = std::max(1e-3, absl::ToDoubleSeconds(now - start_));
  // Sending and computing overlap; whoever is behind says how far the call is.
  const double sent =
      static_cast<double>(bytes_sent_) / static_cast<double>(std::max<int64_t>(1, totals_.bytes));
  const double done =
      static_cast<double>(groups_done_) / static_cast<double>(std::max<int64_t>(1, totals_.groups));
  const int64_t cells = std::clamp<int64_t>(
      static_cast<int64_t>(std::min(sent, done) * static_cast<double>(kBarCells)), 0, kBarCells);
  return absl::StrFormat("[%s%s] %s of %s sent, %d of %d groups, %s parameters/s",
                         std::string(static_cast<size_t>(cells), '#'),
                         std::string(static_cast<size_t>(kBarCells - cells), '.'),
                         FormatBytes(bytes_sent_), FormatBytes(totals_.bytes), groups_done_,
                         totals_.groups,
                         FormatCount(static_cast<double>(parameters_done_) / seconds));
}

void Progress::Draw(absl::Time now) {
  drawn_ = now;
  // ESC [ K erases what a longer line before left over.
  std::fputs(absl::StrCat("\r", BarText(now).substr(0, LineLength(out_)), "\x1b[K").c_str(), out_);
  std::fflush(out_);
}

}  // namespace salient
