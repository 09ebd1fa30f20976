// Reads what the kernel says about this process's memory.
#ifndef SALIENT_SERVER_PROCESS_MEMORY_H_
#define SALIENT_SERVER_PROCESS_MEMORY_H_

#include <cstdint>

namespace salient {

// Returns bytes; 0 where /proc does not say.
int64_t ResidentMemoryBytes();
// Returns the peak since the start, or since the last reset.
int64_t PeakResidentMemoryBytes();

// Begins to count the peak anew. Where that is not permitted, nothing happens.
void ResetPeakResidentMemory();

// Gives back to the kernel what the allocator keeps for later, so that what is resident is what is
// in use.
void TrimFreeMemory();

// Marks work that may take much memory for a while, from its beginning to its end. If the process
// is then noticeably larger than before, free memory is trimmed: what the allocator keeps of one
// large request would count in the estimate of every job after it.
class TrimmedWork {
 public:
  TrimmedWork() = default;
  ~TrimmedWork();
  TrimmedWork(const TrimmedWork&) = delete;
  TrimmedWork& operator=(const TrimmedWork&) = delete;

 private:
  const int64_t resident_bytes_ = ResidentMemoryBytes();
};

}  // namespace salient

#endif  // SALIENT_SERVER_PROCESS_MEMORY_H_
