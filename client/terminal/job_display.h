// Tells people how far a job is.
#ifndef SALIENT_CLIENT_TERMINAL_JOB_DISPLAY_H_
#define SALIENT_CLIENT_TERMINAL_JOB_DISPLAY_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/terminal/status_line.h"
#include "salient/v1/job.pb.h"

namespace salient::client {

// The bar shows the block, the pace, the time left and the loss so far, and what goes over the
// wire. Without a terminal there is a line for each block, and at most one a second for bytes. It
// is thread-safe: bytes and events are counted by different threads.
class JobDisplay {
 public:
  // `out` outlives the display.
  JobDisplay(std::FILE* out, ProgressStyle style);
  ~JobDisplay();
  JobDisplay(const JobDisplay&) = delete;
  JobDisplay& operator=(const JobDisplay&) = delete;

  // Says it on a line of its own.
  void Say(absl::string_view text);

  // Bytes that are to be hashed, to go up, to come down; more may be added at any time.
  enum class Way { kHash, kUpload, kDownload };
  void Expect(Way way, int64_t bytes);
  void Add(Way way, int64_t bytes);

  void Take(const v1::JobEvent& event);

 private:
  struct Bytes {
    int64_t expected = 0;
    int64_t done = 0;
    bool open() const { return done < expected; }
  };

  void TakeProgress(const v1::Progress& progress) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeSuccess() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PrintBlock(int64_t done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string PaceText() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string LeftText() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string BarText() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DrawIfDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Draw() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  StatusLine line_ ABSL_GUARDED_BY(mutex_);
  Bytes bytes_[3] ABSL_GUARDED_BY(mutex_);
  absl::Time bytes_printed_ ABSL_GUARDED_BY(mutex_);
  v1::Progress progress_ ABSL_GUARDED_BY(mutex_);
  int64_t blocks_printed_ ABSL_GUARDED_BY(mutex_) = 0;
  double loss_ratios_ ABSL_GUARDED_BY(mutex_) = 0;   // It sums over groups.
  int64_t groups_ ABSL_GUARDED_BY(mutex_) = 0;       // Round-to-nearest loses something in so many.
  bool runs_again_ ABSL_GUARDED_BY(mutex_) = false;  // The model runs again, as in a study.
  bool succeeded_ ABSL_GUARDED_BY(mutex_) = false;
  bool bar_shown_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_JOB_DISPLAY_H_
