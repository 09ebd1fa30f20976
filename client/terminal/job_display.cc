#include "client/terminal/job_display.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/terminal/errors.h"
#include "client/terminal/table.h"

namespace salient::client {
namespace {

constexpr absl::Duration kLineInterval = absl::Seconds(1);
constexpr const char* kWays[] = {"hashed", "uploaded", "downloaded"};

absl::string_view StageText(v1::Progress::Stage stage) {
  switch (stage) {
    case v1::Progress::STAGE_INGEST:
      return "waiting for bytes";
    case v1::Progress::STAGE_CALIBRATE:
      return "calibrating";
    case v1::Progress::STAGE_QUANTIZE:
      return "quantizing";
    case v1::Progress::STAGE_WRITE:
      return "writing";
    case v1::Progress::STAGE_EVALUATE:
      return "evaluating";
    default:
      return "working";
  }
}

}  // namespace

JobDisplay::JobDisplay(std::FILE* out, ProgressStyle style)
    : line_(out, style), bytes_printed_(absl::Now()) {}

JobDisplay::~JobDisplay() {
  absl::MutexLock lock(&mutex_);
  // The last state stays to be read.
  if (bar_shown_) line_.Draw(BarText());
}

void JobDisplay::Say(absl::string_view text) {
  absl::MutexLock lock(&mutex_);
  line_.Print(text);
}

void JobDisplay::Expect(Way way, int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  bytes_[static_cast<size_t>(way)].expected += bytes;
}

void JobDisplay::Add(Way way, int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  Bytes& counted = bytes_[static_cast<size_t>(way)];
  counted.done += bytes;
  if (line_.style() == ProgressStyle::kBar) {
    // The line of the last byte is shown, however soon it follows the one before.
    if (counted.open()) {
      DrawIfDue();
    } else {
      Draw();
    }
  } else if (absl::Now() - bytes_printed_ >= kLineInterval) {
    bytes_printed_ = absl::Now();
    line_.Print(absl::StrCat(kWays[static_cast<size_t>(way)], " ", FormatBytes(counted.done),
                             " of ", FormatBytes(counted.expected)));
  }
}

void JobDisplay::Take(const v1::JobEvent& event) {
  absl::MutexLock lock(&mutex_);
  switch (event.event_case()) {
    case v1::JobEvent::kProgress:
      TakeProgress(event.progress());
      break;
    case v1::JobEvent::kGroupReport:
      if (event.group_report().loss_rtn() > 0) {
        loss_ratios_ += event.group_report().loss() / event.group_report().loss_rtn();
        ++groups_;
      }
      break;
    case v1::JobEvent::kWarning:
      line_.Print(absl::StrCat("warning: ", Printable(event.warning(), kMaxSentenceBytes)));
      break;
    case v1::JobEvent::kStateChanged:
      if (event.state_changed() == v1::JOB_STATE_SUCCEEDED) TakeSuccess();
      break;
    default:
      break;
  }
  DrawIfDue();
}

void JobDisplay::TakeProgress(const v1::Progress& progress) {
  // A job that runs a model twice begins again.
  if (progress.block() < progress_.block()) {
    blocks_printed_ = 0;
    runs_again_ = true;
  }
  progress_ = progress;
  if (line_.style() == ProgressStyle::kLines && progress.block() > blocks_printed_) {
    PrintBlock(progress.block());
  }
}

void JobDisplay::TakeSuccess() {
  succeeded_ = true;
  progress_.set_block(progress_.block_count());
  progress_.clear_eta();
  if (line_.style() == ProgressStyle::kLines && blocks_printed_ < progress_.block_count()) {
    PrintBlock(progress_.block_count());
  }
}

void JobDisplay::PrintBlock(int64_t done) {
  blocks_printed_ = done;
  line_.Print(absl::StrCat("block ", done, " of ", progress_.block_count(), " done",
                           runs_again_ ? ", " : "", runs_again_ ? StageText(progress_.stage()) : "",
                           PaceText(), LeftText()));
}

std::string JobDisplay::PaceText() const {
  std::string text;
  if (groups_ > 0) {
    absl::StrAppendFormat(&text, ", loss/RTN %.3f", loss_ratios_ / static_cast<double>(groups_));
  }
  if (progress_.parameters_per_second() > 0) {
    absl::StrAppend(&text, ", ", FormatCount(progress_.parameters_per_second()), " parameters/s");
  }
  return text;
}

std::string JobDisplay::LeftText() const {
  if (!progress_.has_eta()) return "";
  return absl::StrCat(", ",
                      FormatSeconds(static_cast<double>(progress_.eta().seconds()) +
                                    1e-9 * progress_.eta().nanos()),
                      " left");
}

std::string JobDisplay::BarText() const {
  std::string text;
  if (progress_.block_count() > 0) {
    const double share =
        static_cast<double>(progress_.block()) / static_cast<double>(progress_.block_count());
    // A narrow terminal cuts the end, so what people want to know most stands in front.
    absl::StrAppend(&text, "block ", std::min(progress_.block() + 1, progress_.block_count()),
                    " of ", progress_.block_count(), LeftText(), " ", BarCells(share), " ",
                    succeeded_ ? "done" : StageText(progress_.stage()), PaceText());
  }
  for (size_t way = 0; way < 3; ++way) {
    const Bytes& counted = bytes_[way];
    if (!counted.open()) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", kWays[way], " ", FormatBytes(counted.done),
                    " of ", FormatBytes(counted.expected));
  }
  return text.empty() ? "waiting" : text;
}

void JobDisplay::DrawIfDue() {
  if (line_.Due()) Draw();
}

void JobDisplay::Draw() {
  bar_shown_ = true;
  line_.Draw(BarText());
}

}  // namespace salient::client
