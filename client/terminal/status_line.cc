#include "client/terminal/status_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace salient::client {
namespace {

constexpr int64_t kBarCells = 24;
// Often enough to look alive, seldom enough to cost nothing over a slow terminal.
constexpr absl::Duration kRedrawInterval = absl::Milliseconds(100);
// Erases what a longer line before left over.
constexpr char kEraseToEnd[] = "\x1b[K";

// A line that wraps cannot be drawn over.
size_t LineLength(std::FILE* out) {
  winsize size = {};
  const bool known = ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return known ? size.ws_col - 1u : 120u;
}

}  // namespace

ProgressStyle StyleFor(std::FILE* out) {
  return isatty(fileno(out)) != 0 ? ProgressStyle::kBar : ProgressStyle::kLines;
}

std::string BarCells(double share) {
  const int64_t cells = std::clamp<int64_t>(
      static_cast<int64_t>(share * static_cast<double>(kBarCells)), 0, kBarCells);
  return absl::StrCat("[", std::string(static_cast<size_t>(cells), '#'),
                      std::string(static_cast<size_t>(kBarCells - cells), '.'), "]");
}

StatusLine::~StatusLine() {
  if (style_ != ProgressStyle::kBar || drawn_ == absl::InfinitePast()) return;
  std::fputs("\n", out_);
  std::fflush(out_);
}

bool StatusLine::Due() const {
  return style_ == ProgressStyle::kBar && absl::Now() - drawn_ >= kRedrawInterval;
}

void StatusLine::Draw(absl::string_view text) {
  drawn_ = absl::Now();
  std::fputs(absl::StrCat("\r", text.substr(0, LineLength(out_)), kEraseToEnd).c_str(), out_);
  std::fflush(out_);
}

void StatusLine::Print(absl::string_view text) {
  if (drawn_ != absl::InfinitePast()) std::fputs(absl::StrCat("\r", kEraseToEnd).c_str(), out_);
  std::fputs(absl::StrCat(text, "\n").c_str(), out_);
  std::fflush(out_);
  drawn_ = absl::InfinitePast();
}

}  // namespace salient::client
