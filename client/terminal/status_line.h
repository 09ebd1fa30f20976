// Draws one line of a terminal over itself, or plain lines where there is no terminal.
#ifndef SALIENT_CLIENT_TERMINAL_STATUS_LINE_H_
#define SALIENT_CLIENT_TERMINAL_STATUS_LINE_H_

#include <cstdio>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace salient::client {

enum class ProgressStyle { kBar, kLines };

// Returns the style that suits `out`: a bar for a terminal.
ProgressStyle StyleFor(std::FILE* out);

// Returns "[######..................]" for a share of 0 to 1.
std::string BarCells(double share);

// It is not thread-safe.
class StatusLine {
 public:
  // Writes nothing before the first line. `out` outlives it.
  StatusLine(std::FILE* out, ProgressStyle style) : out_(out), style_(style) {}
  // Ends the bar, if there is one.
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  ProgressStyle style() const { return style_; }

  // Returns whether the bar is old enough to be drawn again. It is false for lines.
  bool Due() const;
  // Draws the bar, as much of `text` as fits.
  void Draw(absl::string_view text);
  // Prints a line that stays.
  void Print(absl::string_view text);

 private:
  std::FILE* const out_;
  const ProgressStyle style_;
  absl::Time drawn_ = absl::InfinitePast();
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_STATUS_LINE_H_
