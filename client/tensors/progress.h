// Tells people how far a call is.
#ifndef SALIENT_CLIENT_TENSORS_PROGRESS_H_
#define SALIENT_CLIENT_TENSORS_PROGRESS_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/terminal/status_line.h"
#include "salient/v1/report.pb.h"

namespace salient::client {

// Says what the whole call amounts to.
struct ProgressTotals {
  int64_t bytes = 0;
  int64_t groups = 0;
};

// Shows on a terminal one line that is drawn over itself, elsewhere a line for each finished group.
// It is thread-safe: the writer of a call counts bytes while its reader counts groups.
class Progress {
 public:
  using Style = ProgressStyle;

  // Writes nothing before the first count. `out` outlives the progress.
  Progress(std::FILE* out, Style style, ProgressTotals totals);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void AddBytesSent(int64_t bytes);
  void AddGroup(const v1::GroupReport& report);

 private:
  std::string BarText() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ProgressTotals totals_;
  const absl::Time start_;
  absl::Mutex mutex_;
  StatusLine line_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t groups_done_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t parameters_done_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_PROGRESS_H_
