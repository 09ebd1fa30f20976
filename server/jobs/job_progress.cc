#include "server/jobs/job_progress.h"

#include <algorithm>

namespace salient {
namespace {

constexpr size_t kLateGroups = 8;  // The speed is measured over so many.

}  // namespace

absl::Duration JobProgressReporter::Active() {
  const MutexLock lock(mu_);
  return absl::Now() - begun_ - waited_();
}

absl::Duration JobProgressReporter::ActiveSince(absl::Duration& mark) {
  const absl::Duration active = absl::Now() - begun_ - waited_();
  const absl::Duration since = std::max(active - mark, absl::ZeroDuration());
  mark = active;
  return since;
}

void JobProgressReporter::Begin(JobProgress::Stage stage, int64_t blocks, int64_t tokens_a_block,
                                int64_t parameters_a_block, double share_after) {
  std::optional<JobProgress> due;
  {
    const MutexLock lock(mu_);
    now_.stage = stage;
    now_.block = 0;
    now_.block_count = blocks;
    seconds_after_ = share_after * estimated_seconds_;
    tokens_before_ = now_.token_count;
    tokens_total_ = blocks * tokens_a_block;
    parameters_total_ = blocks * parameters_a_block;
    running_tokens_ = absl::ZeroDuration();
    (void)ActiveSince(mark_);
    lately_.assign(1, {mark_, 0});
    due = Due(/*only_changed_stage=*/false);
  }
  Tell(due);
}

void JobProgressReporter::TokensDone(JobProgress::Stage stage, int64_t block, int64_t tokens) {
  std::optional<JobProgress> due;
  {
    const MutexLock lock(mu_);
    running_tokens_ += ActiveSince(mark_);
    now_.stage = stage;
    now_.block = block;
    now_.token_count += tokens;
    due = Due(/*only_changed_stage=*/false);
  }
  observer_.Computed(tokens, 0);
  Tell(due);
}

absl::Duration JobProgressReporter::GroupDone(int64_t parameters) {
  std::optional<JobProgress> due;
  absl::Duration elapsed;
  {
    const MutexLock lock(mu_);
    elapsed = ActiveSince(mark_);
    quantizing_ += elapsed;
    parameters_ += parameters;
    lately_.emplace_back(mark_, parameters_);
    if (lately_.size() > kLateGroups + 1) lately_.pop_front();
    const double seconds = absl::ToDoubleSeconds(lately_.back().first - lately_.front().first);
    const auto late_parameters = static_cast<double>(parameters_ - lately_.front().second);
    if (seconds > 0) now_.parameters_per_second = late_parameters / seconds;
    now_.stage = JobProgress::Stage::kQuantize;
    due = Due(/*only_changed_stage=*/false);
  }
  observer_.Computed(0, parameters);
  Tell(due);
  return elapsed;
}

void JobProgressReporter::ChangeStage(JobProgress::Stage stage) {
  std::optional<JobProgress> due;
  {
    const MutexLock lock(mu_);
    now_.stage = stage;
    due = Due(/*only_changed_stage=*/true);
  }
  Tell(due);
}

double JobProgressReporter::SecondsLeft() const {
  const int64_t tokens = now_.token_count - tokens_before_;
  const double tokens_left = static_cast<double>(tokens_total_ - tokens);
  const double parameters_left = static_cast<double>(parameters_total_ - parameters_);
  if (tokens == 0 || (parameters_ == 0 && parameters_total_ > 0)) {
    // One of the two was not measured yet.
    return std::max(0.0, estimated_seconds_ - absl::ToDoubleSeconds(mark_));
  }
  double seconds = seconds_after_ + tokens_left * absl::ToDoubleSeconds(running_tokens_) /
                                        static_cast<double>(tokens);
  if (parameters_ > 0) {
    seconds +=
        parameters_left * absl::ToDoubleSeconds(quantizing_) / static_cast<double>(parameters_);
  }
  return std::max(0.0, seconds);
}

std::optional<JobProgress> JobProgressReporter::Due(bool only_changed_stage) {
  if (only_changed_stage && now_.stage == told_stage_) return std::nullopt;
  const absl::Time now = absl::Now();
  if (now - told_at_ < kPeriod) return std::nullopt;
  told_at_ = now;
  told_stage_ = now_.stage;
  const double left = SecondsLeft();
  const double done = absl::ToDoubleSeconds(mark_);
  now_.eta = absl::Seconds(left);
  if (done + left > 0) share_ = done / (done + left);
  return now_;
}

void JobProgressReporter::Tell(const std::optional<JobProgress>& progress) {
  if (!progress.has_value()) return;
  double share = 0;
  {
    const MutexLock lock(mu_);
    share = share_;
  }
  observer_.Advanced(share);
  observer_.Happened(*progress);
}

}  // namespace salient
