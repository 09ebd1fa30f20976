// CPU seconds of one thread: on a machine that others use, too, they mean more than wall time.
#ifndef SALIENT_TESTS_BENCH_THREAD_CPU_SECONDS_H_
#define SALIENT_TESTS_BENCH_THREAD_CPU_SECONDS_H_

#include <time.h>

#include "absl/functional/function_ref.h"

namespace salient {

// Measures what `work` takes of the calling thread.
inline double ThreadCpuSeconds(absl::FunctionRef<void()> work) {
  const auto now = [] {
    timespec time;
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  work();
  return now() - start;
}

}  // namespace salient

#endif  // SALIENT_TESTS_BENCH_THREAD_CPU_SECONDS_H_
