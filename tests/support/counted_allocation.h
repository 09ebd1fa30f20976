// Counts what a program allocates, where memory is handed out. Include it in the only source file
// of a test program: it replaces the global operators new and delete. It is not thread-safe.
#ifndef SALIENT_TESTS_SUPPORT_COUNTED_ALLOCATION_H_
#define SALIENT_TESTS_SUPPORT_COUNTED_ALLOCATION_H_

#include <malloc.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace salient::testing {

inline int64_t live_bytes = 0;
// It is the most that was live; set it to live_bytes to begin anew.
inline int64_t peak_bytes = 0;

inline void* Count(void* p) {
  if (p == nullptr) std::abort();
  live_bytes += static_cast<int64_t>(malloc_usable_size(p));
  peak_bytes = live_bytes > peak_bytes ? live_bytes : peak_bytes;
  return p;
}

inline void Uncount(void* p) {
  if (p != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace salient::testing

void* operator new(size_t size) { return salient::testing::Count(std::malloc(size)); }
// std::stable_sort's buffer comes from here.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return salient::testing::Count(std::malloc(size));
}
void* operator new(size_t size, std::align_val_t align) {
  const auto alignment = static_cast<size_t>(align);
  return salient::testing::Count(
      std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment));
}
void operator delete(void* p) noexcept { salient::testing::Uncount(p); }
void operator delete(void* p, size_t) noexcept { salient::testing::Uncount(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { salient::testing::Uncount(p); }
void operator delete(void* p, std::align_val_t) noexcept { salient::testing::Uncount(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { salient::testing::Uncount(p); }

#endif  // SALIENT_TESTS_SUPPORT_COUNTED_ALLOCATION_H_
