#include "client/jobs/run.h"

#include <deque>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "client/jobs/calls.h"
#include "client/jobs/result_directory.h"
#include "client/jobs/result_download.h"
#include "client/terminal/errors.h"
#include "client/transfer/blob_upload.h"
#include "client/transfer/call_group.h"

namespace salient::client {
namespace {

using Way = JobDisplay::Way;

// A cancelled job may take this long to end before we go anyway.
constexpr absl::Duration kCancelPatience = absl::Seconds(30);

std::string RandomJobId() {
  std::random_device random;
  return absl::StrFormat("salient-%08x%08x", random(), random());
}

std::string StillThere(const std::string& job, const std::string& address) {
  return absl::StrCat("the result is still there: salient jobs download ", job, " DIR --server ",
                      address);
}

absl::Status UploadAll(const JobServer& server, CallGroup& calls,
                       const std::vector<LocalBlob>& blobs, JobDisplay& display) {
  Retry retry(server.retry, calls);
  auto missing = FindMissing(server, calls, blobs);
  while (!missing.ok() && retry.WaitAfter(missing.status())) {
    missing = FindMissing(server, calls, blobs);
  }
  if (!missing.ok()) return missing.status();
  for (const LocalBlob& blob : *missing) display.Expect(Way::kUpload, blob.digest.size_bytes());
  for (const LocalBlob& blob : *missing) {
    const absl::Status uploaded =
        UploadBlob(server, calls, blob, [&](int64_t bytes) { display.Add(Way::kUpload, bytes); });
    if (!uploaded.ok()) return uploaded;
  }
  return absl::OkStatus();
}

// Writes result files on a thread of its own, in the order they were asked for.
class Downloads {
 public:
  Downloads(const JobServer& server, CallGroup& calls, ResultDirectory& directory,
            JobDisplay& display)
      : server_(server), calls_(calls), directory_(directory), display_(display) {
    thread_ = std::thread([this] { Work(); });
  }
  ~Downloads() {
    if (thread_.joinable()) Finish().IgnoreError();
  }

  // Each file once, however often it is announced.
  void Add(const v1::ResultFile& file) {
    absl::MutexLock lock(&mutex_);
    if (!names_.insert(file.name()).second) return;
    display_.Expect(Way::kDownload, file.digest().size_bytes());
    waiting_.push_back(file);
  }

  // Waits for what was added.
  absl::Status Finish() {
    {
      absl::MutexLock lock(&mutex_);
      finishing_ = true;
    }
    thread_.join();
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  void Work() {
    for (;;) {
      v1::ResultFile file;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &Downloads::HasNews));
        if (waiting_.empty()) return;
        file = std::move(waiting_.front());
        waiting_.pop_front();
      }
      const absl::Status status =
          DownloadResultFile(server_, calls_, file, directory_,
                             [&](int64_t bytes) { display_.Add(Way::kDownload, bytes); });
      if (status.ok()) continue;
      {
        absl::MutexLock lock(&mutex_);
        status_ = status;
      }
      calls_.Cancel();
      return;
    }
  }

  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return finishing_ || !waiting_.empty();
  }

  const JobServer& server_;
  CallGroup& calls_;
  ResultDirectory& directory_;
  JobDisplay& display_;
  absl::Mutex mutex_;
  std::deque<v1::ResultFile> waiting_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> names_ ABSL_GUARDED_BY(mutex_);
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// One run: the calls that a signal ends, and the threads that make them.
class JobRun {
 public:
  JobRun(const JobServer& server, JobPlan plan, JobDisplay& display, Interrupt& interrupt)
      : server_(server), plan_(std::move(plan)), display_(display), interrupt_(interrupt) {
    // People should know what they wait for.
    server_.retry.tell = [this](absl::string_view why) { display_.Say(why); };
  }

  absl::StatusOr<FinishedJob> Run() {
    if (plan_.request.job_id().empty()) plan_.request.set_job_id(RandomJobId());
    const std::string name = FullJobName(plan_.request.job_id());
    std::optional<ResultDirectory> directory;
    if (!plan_.download_to.empty()) {
      auto created = ResultDirectory::Create(plan_.download_to);
      if (!created.ok()) return created.status();
      directory.emplace(*std::move(created));
    }

    absl::StatusOr<FinishedJob> outcome = [&]() -> absl::StatusOr<FinishedJob> {
      Interrupt::Watch watch(interrupt_, [this] { CancelCalls(); });
      const auto created = Create();
      if (!created.ok()) return created.status();
      if (plan_.tells_name) display_.Say(absl::StrCat(name, " on ", server_.address));
      return Follow(name, directory.has_value() ? &*directory : nullptr);
    }();

    const absl::Status failure =
        outcome.ok() ? OutcomeOf(outcome->job, server_.address) : outcome.status();
    if (interrupt_.Raised()) return EndInterrupted(name);
    if (!outcome.ok() && created_or_unknown_) EndJob(name).status().IgnoreError();
    if (!failure.ok()) return failure;
    if (directory.has_value()) {
      if (auto committed = directory->Commit(); !committed.ok()) return committed;
    }
    return outcome;
  }

  absl::StatusOr<EstimatedJob> Estimate() {
    auto created = [&]() -> absl::StatusOr<v1::CreateJobResponse> {
      Interrupt::Watch watch(interrupt_, [this] { CancelCalls(); });
      plan_.request.set_validate_only(true);
      return Create();
    }();
    if (interrupt_.Raised()) return absl::CancelledError("interrupted");
    if (!created.ok()) return created.status();
    EstimatedJob estimated{std::move(*created->mutable_job()), {}};
    for (const std::string& warning : created->warnings()) {
      // It is shown as the events of a job that runs are.
      v1::JobEvent event;
      event.set_warning(warning);
      display_.Take(event);
      estimated.warnings.push_back(Printable(warning, kMaxSentenceBytes));
    }
    return estimated;
  }

 private:
  void CancelCalls() {
    calls_.Cancel();
    uploads_.Cancel();
  }

  absl::StatusOr<v1::CreateJobResponse> Create() {
    if (auto sent = UploadAll(server_, calls_, plan_.first, display_); !sent.ok()) return sent;
    created_or_unknown_ = !plan_.request.validate_only();
    auto created = CreateJob(server_, calls_, plan_.request);
    if (created.ok() && created->job().state() == v1::JOB_STATE_CANCELLED) {
      if (auto gone = DeleteJob(server_, calls_, created->job().name()); !gone.ok()) return gone;
      created = CreateJob(server_, calls_, plan_.request);
    }
    // A job that was refused is not there to be cancelled; one whose answer was lost may be.
    const absl::StatusCode code = created.status().code();
    if (!created.ok() && code != absl::StatusCode::kUnavailable &&
        code != absl::StatusCode::kDeadlineExceeded && code != absl::StatusCode::kCancelled) {
      created_or_unknown_ = false;
    }
    return created;
  }

  absl::StatusOr<FinishedJob> Follow(const std::string& name, ResultDirectory* directory) {
    absl::Status uploaded;
    std::thread uploader([&] {
      uploaded = UploadAll(server_, uploads_, plan_.rest, display_);
      // Without its bytes the job would wait for ever.
      if (!uploaded.ok() && !uploads_.Cancelled()) calls_.Cancel();
    });
    std::optional<Downloads> downloads;
    if (directory != nullptr) downloads.emplace(server_, calls_, *directory, display_);

    FinishedJob outcome;
    auto ended = WatchJob(server_, calls_, name, [&](const v1::JobEvent& event) {
      display_.Take(event);
      if (event.has_group_report()) outcome.groups.push_back(event.group_report());
      if (event.event_case() == v1::JobEvent::kWarning) {
        outcome.warnings.push_back(Printable(event.warning(), kMaxSentenceBytes));
      }
      if (event.has_file_ready() && downloads.has_value()) downloads->Add(event.file_ready());
    });

    // A file that is still on its way up is of no use now.
    const bool needless = ended.ok();
    uploads_.Cancel();
    uploader.join();
    const bool succeeded = ended.ok() && ended->state() == v1::JOB_STATE_SUCCEEDED;
    absl::Status downloaded;
    if (downloads.has_value()) {
      if (succeeded) {
        for (const v1::ResultFile& file : ended->files()) downloads->Add(file);
      } else {
        calls_.Cancel();
      }
      downloaded = downloads->Finish();
    }
    if (!needless && !uploaded.ok() && uploaded.code() != absl::StatusCode::kCancelled) {
      return uploaded;
    }
    if (succeeded && !downloaded.ok()) {
      return WithText(downloaded, absl::StrCat("; ", StillThere(name, server_.address)));
    }
    if (ended.status().code() == absl::StatusCode::kNotFound) {
      return LostJob(name, server_.address);
    }
    if (!ended.ok()) return downloaded.ok() ? ended.status() : downloaded;
    outcome.job = *std::move(ended);
    return outcome;
  }

  // Cancels the job and says what became of it.
  absl::Status EndInterrupted(const std::string& name) {
    const absl::StatusOr<v1::JobState> ended =
        created_or_unknown_ ? EndJob(name) : v1::JOB_STATE_CANCELLED;
    if (!ended.ok() || *ended != v1::JOB_STATE_SUCCEEDED) {
      return absl::CancelledError(
          absl::StrCat("interrupted; ",
                       ended.ok() ? absl::StrCat(name, " was cancelled") : ended.status().message(),
                       ". ", plan_.after_interrupt));
    }
    const std::string& path = plan_.request.spec().quantize().output_path();
    return absl::CancelledError(absl::StrCat(
        "interrupted; ", name, " had succeeded before",
        path.empty() ? "" : absl::StrCat("; its result is in ", path),
        plan_.download_to.empty() ? "" : absl::StrCat("; ", StillThere(name, server_.address))));
  }

  // Cancels the job and waits until it has ended. How it did; one that is not there was cancelled.
  absl::StatusOr<v1::JobState> EndJob(const std::string& name) {
    CallGroup calls;
    const absl::Time deadline = absl::Now() + kCancelPatience;
    auto job = CancelJob(server_, calls, name);
    while (job.ok() && !HasEnded(job->state()) && absl::Now() < deadline) {
      calls.Sleep(absl::Milliseconds(50));
      job = GetJob(server_, calls, name);
    }
    if (job.status().code() == absl::StatusCode::kNotFound) return v1::JOB_STATE_CANCELLED;
    if (!job.ok()) return job.status();
    if (HasEnded(job->state())) return job->state();
    return absl::DeadlineExceededError(absl::StrCat(name, " has not ended yet"));
  }

  JobServer server_;
  JobPlan plan_;
  JobDisplay& display_;
  Interrupt& interrupt_;
  CallGroup calls_;
  CallGroup uploads_;  // They belong to `rest`: they may be ended while the other calls go on.
  bool created_or_unknown_ = false;
};

}  // namespace

absl::StatusOr<FinishedJob> RunJob(const JobServer& server, JobPlan plan, JobDisplay& display,
                                   Interrupt& interrupt) {
  return JobRun(server, std::move(plan), display, interrupt).Run();
}

absl::StatusOr<EstimatedJob> EstimateJob(const JobServer& server, JobPlan plan, JobDisplay& display,
                                         Interrupt& interrupt) {
  return JobRun(server, std::move(plan), display, interrupt).Estimate();
}

}  // namespace salient::client
