#include "server/workers/memory_budget.h"

#include <utility>

namespace salient {

Reservation::Reservation(Reservation&& other) noexcept
    : budget_(other.budget_), bytes_(std::exchange(other.bytes_, 0)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    ShrinkTo(0);
    budget_ = other.budget_;
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void Reservation::ShrinkTo(int64_t bytes) {
  if (bytes >= bytes_) return;
  budget_->GiveBack(bytes_ - bytes);
  bytes_ = bytes;
}

void Reservation::Absorb(Reservation other) {
  if (budget_ == nullptr) budget_ = other.budget_;
  bytes_ += std::exchange(other.bytes_, 0);
}

MemoryBudget::Place::Place(MemoryBudget& budget) : budget_(budget) {
  const MutexLock lock(budget_.mu_);
  budget_.queue_.push_back(this);
}

MemoryBudget::Place::~Place() {
  const MutexLock lock(budget_.mu_);
  budget_.queue_.remove(this);
}

std::optional<Reservation> MemoryBudget::TryReserve(int64_t bytes, const Place* place) {
  const MutexLock lock(mu_);
  if (!queue_.empty() && queue_.front() != place) return std::nullopt;
  if (bytes > limit_ - reserved_) return std::nullopt;
  reserved_ += bytes;
  return Reservation(this, bytes);
}

int64_t MemoryBudget::reserved_bytes() const {
  const MutexLock lock(mu_);
  return reserved_;
}

void MemoryBudget::GiveBack(int64_t bytes) {
  const MutexLock lock(mu_);
  reserved_ -= bytes;
}

}  // namespace salient
