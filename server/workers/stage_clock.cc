#include "server/workers/stage_clock.h"

#include <chrono>
#include <utility>

namespace salient {
namespace {

constexpr std::array<absl::string_view, kStages> kNames = {
    "other", "read",     "forward", "statistics", "scale_search",
    "range", "rounding", "loss",    "pack",       "write"};
static_assert(static_cast<size_t>(Stage::kWrite) + 1 == kStages);

int64_t NowNanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

absl::string_view Name(Stage stage) { return kNames[static_cast<size_t>(stage)]; }

void StageTimes::Add(Stage stage, int64_t nanoseconds) {
  nanoseconds_[static_cast<size_t>(stage)].fetch_add(nanoseconds, std::memory_order_relaxed);
  if (total_ != nullptr) total_->Add(stage, nanoseconds);
}

StageSeconds StageTimes::Seconds() const {
  StageSeconds seconds;
  for (size_t i = 0; i < kStages; ++i) {
    seconds[i] = 1e-9 * static_cast<double>(nanoseconds_[i].load(std::memory_order_relaxed));
  }
  return seconds;
}

StageClock& StageClock::OfThisThread() {
  thread_local StageClock clock;
  return clock;
}

void StageClock::Start(StageTimes& times, std::atomic<int64_t>* of_thread) {
  times_ = &times;
  of_thread_ = of_thread;
  stage_ = Stage::kOther;
  Skip();
}

void StageClock::Stop() {
  Read();
  times_ = nullptr;
  of_thread_ = nullptr;
  stage_ = Stage::kOther;
}

void StageClock::Read() {
  if (!running()) return;
  const int64_t now = NowNanoseconds();
  const int64_t passed = now - std::exchange(since_, now);
  times_->Add(stage_, passed);
  if (of_thread_ != nullptr) of_thread_->fetch_add(passed, std::memory_order_relaxed);
}

void StageClock::Skip() { since_ = NowNanoseconds(); }

Stage StageClock::Enter(Stage stage) {
  Read();
  return std::exchange(stage_, stage);
}

StageClock::Scope::Scope(StageTimes* times, Stage stage)
    : clock_(OfThisThread()), times_before_(clock_.times_), stage_before_(clock_.stage_) {
  clock_.times_ = times;
  clock_.stage_ = stage;
}

StageClock::Scope::~Scope() {
  clock_.Read();
  clock_.times_ = times_before_;
  clock_.stage_ = stage_before_;
}

}  // namespace salient
