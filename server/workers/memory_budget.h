// Says how much memory all calls together may hold, handed out first come, first served.
#ifndef SALIENT_SERVER_WORKERS_MEMORY_BUDGET_H_
#define SALIENT_SERVER_WORKERS_MEMORY_BUDGET_H_

#include <cstdint>
#include <list>
#include <optional>
#include <utility>

#include "core/parallel/mutex.h"

namespace salient {

class MemoryBudget;

// Bytes held of a budget, given back on destruction. Must not outlive its budget.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { ShrinkTo(0); }

  int64_t bytes() const { return bytes_; }

  // Gives back all but `bytes`; never grows.
  void ShrinkTo(int64_t bytes);
  // Holds what `other`, of the same budget, held, too.
  void Absorb(Reservation other);

 private:
  friend class MemoryBudget;
  Reservation(MemoryBudget* budget, int64_t bytes) : budget_(budget), bytes_(bytes) {}

  MemoryBudget* budget_ = nullptr;
  int64_t bytes_ = 0;
};

// Holds the same bytes of a call's budget and of all calls'. Declared before what they are held
// for, so that the memory goes first.
struct MemoryHold {
  Reservation call;
  Reservation process;

  void ShrinkTo(int64_t bytes) {
    call.ShrinkTo(bytes);
    process.ShrinkTo(bytes);
  }
  void Absorb(MemoryHold other) {
    call.Absorb(std::move(other.call));
    process.Absorb(std::move(other.process));
  }
};

// Is thread-safe. Nobody blocks here: who finds no room takes a place in the queue and asks again
// later. Places are served in order, so that a large request is not starved by small ones that come
// after it.
class MemoryBudget {
 public:
  // A place in the queue, left on destruction. Must not outlive the budget.
  class Place {
   public:
    explicit Place(MemoryBudget& budget);
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    MemoryBudget& budget_;
  };

  explicit MemoryBudget(int64_t limit_bytes) : limit_(limit_bytes) {}

  // Takes `bytes` if they are free and nobody stands in the queue before `place` (before its
  // end, without a place).
  std::optional<Reservation> TryReserve(int64_t bytes, const Place* place = nullptr);

  int64_t limit_bytes() const { return limit_; }
  int64_t reserved_bytes() const;

 private:
  friend class Reservation;
  void GiveBack(int64_t bytes);

  const int64_t limit_;
  mutable Mutex mu_;
  int64_t reserved_ ABSL_GUARDED_BY(mu_) = 0;
  std::list<const Place*> queue_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_MEMORY_BUDGET_H_
