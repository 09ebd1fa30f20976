// Counts what threads spend their time on, by stage of the core's work.
#ifndef SALIENT_SERVER_WORKERS_STAGE_CLOCK_H_
#define SALIENT_SERVER_WORKERS_STAGE_CLOCK_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "core/parallel/executor.h"

namespace salient {

// Returns e.g. "scale_search".
absl::string_view Name(Stage stage);

// Holds seconds, by Stage.
using StageSeconds = std::array<double, kStages>;

// Sums time by stage. It is thread-safe; Add is two relaxed additions.
class StageTimes {
 public:
  // What is added here is added to `total`, too, which outlives this object.
  explicit StageTimes(StageTimes* total = nullptr) : total_(total) {}
  StageTimes(const StageTimes&) = delete;
  StageTimes& operator=(const StageTimes&) = delete;

  void Add(Stage stage, int64_t nanoseconds);
  StageSeconds Seconds() const;

 private:
  StageTimes* const total_;
  std::array<std::atomic<int64_t>, kStages> nanoseconds_ = {};
};

// Is the clock of one thread. It is read where the thread turns to something else (an item of a
// loop ends, another stage begins), not at both ends of everything: the time since it was last read
// belongs to the stage that the thread was in. It is not thread-safe.
class StageClock {
 public:
  static StageClock& OfThisThread();

  // Counts time from now on. `of_thread`, if any, gets the time of all stages.
  void Start(StageTimes& times, std::atomic<int64_t>* of_thread = nullptr);
  // Adds what passed. From now on nothing counts.
  void Stop();
  bool running() const { return times_ != nullptr; }

  // Adds what passed since the last reading. The second: forgets it.
  void Read();
  void Skip();

  // Reads, then changes the stage. Returns the one before.
  Stage Enter(Stage stage);
  Stage stage() const { return stage_; }
  StageTimes* times() const { return times_; }

  // Counts what its scope does for `times` as `stage`, and then again what went on before. Reads
  // the clock once, at its end.
  class Scope {
   public:
    Scope(StageTimes* times, Stage stage);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    StageClock& clock_;
    StageTimes* const times_before_;
    const Stage stage_before_;
  };

 private:
  StageTimes* times_ = nullptr;
  std::atomic<int64_t>* of_thread_ = nullptr;
  Stage stage_ = Stage::kOther;
  int64_t since_ = 0;  // It counts nanoseconds of the steady clock.
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_STAGE_CLOCK_H_
