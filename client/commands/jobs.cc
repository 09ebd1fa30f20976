// Runs salient jobs: it looks after what a server has to do, and its results.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/commands/command.h"
#include "client/commands/flags.h"
#include "client/jobs/calls.h"
#include "client/jobs/result_directory.h"
#include "client/jobs/result_download.h"
#include "client/jobs/run.h"
#include "client/options/flag_values.h"
#include "client/options/server_address.h"
#include "client/report/evaluation.h"
#include "client/report/inspection.h"
#include "client/report/job.h"
#include "client/report/study.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/terminal/json_text.h"
#include "client/terminal/standard_output.h"
#include "client/terminal/status_line.h"
#include "client/transfer/call_group.h"
#include "client/transfer/channel.h"
#include "client/transfer/retry.h"

namespace salient::client {
namespace {

struct JobsFlags {
  std::string server = kDefaultServer;
  std::string job;
  std::string directory;
  bool json = false;
};

// Holds what every command has: a server, and calls that Ctrl-C ends.
class JobsCall {
 public:
  JobsCall(const JobsFlags& flags, Interrupt& interrupt)
      : server{OpenChannel(flags.server), flags.server, {}},
        watch_(interrupt, [this] { calls.Cancel(); }) {}

  const JobServer server;
  CallGroup calls;

 private:
  Interrupt::Watch watch_;
};

absl::Status WriteJob(const v1::Job& job, bool json) {
  return WriteOutput(json ? JobJson(job).Text() + "\n" : JobsTable({&job, 1}));
}

// Describes the result of a job that has ended.
std::string OutcomeText(const FinishedJob& outcome) {
  const v1::Job& job = outcome.job;
  if (job.state() != v1::JOB_STATE_SUCCEEDED) return JobsTable({&job, 1});
  if (job.has_evaluation()) {
    return absl::StrCat(EvaluationTable("result", "source", job.evaluation()),
                        NearestText(job.spec().evaluate(), job.evaluation()));
  }
  if (job.has_inspection()) return InspectionTable(job.name(), job.inspection());
  if (job.has_study()) return StudyTable(job.spec().study(), job.study());
  return QuantizeTable(job.name(), "-", job.usage().seconds(), outcome);
}

absl::Status RunList(const JobsFlags& flags, Interrupt& interrupt) {
  JobsCall call(flags, interrupt);
  const auto jobs = ListJobs(call.server, call.calls);
  if (!jobs.ok()) return jobs.status();
  if (!flags.json) return WriteOutput(JobsTable(*jobs));
  std::vector<JsonObject> items;
  for (const v1::Job& job : *jobs) items.push_back(JobJson(job));
  return WriteOutput(JsonObject().AddArray("jobs", items).Text() + "\n");
}

absl::Status RunWatch(const JobsFlags& flags, Interrupt& interrupt) {
  JobsCall call(flags, interrupt);
  // A server that is not there is known at once; only one that goes away is waited for.
  const auto known = GetJob(call.server, call.calls, FullJobName(flags.job));
  if (!known.ok()) return known.status();
  FinishedJob outcome;
  {
    JobDisplay display(stderr, StyleFor(stderr));
    JobServer server = call.server;
    server.retry.tell = [&display](absl::string_view why) { display.Say(why); };
    auto job = WatchJob(server, call.calls, known->name(), [&](const v1::JobEvent& event) {
      display.Take(event);
      if (event.has_group_report()) outcome.groups.push_back(event.group_report());
    });
    if (call.calls.Cancelled()) {
      return absl::CancelledError(absl::StrCat("interrupted; ", known->name(), " goes on"));
    }
    if (absl::IsNotFound(job.status())) return LostJob(known->name(), flags.server);
    if (!job.ok()) return job.status();
    outcome.job = *std::move(job);
  }
  const absl::Status written =
      WriteOutput(flags.json ? JobJson(outcome.job).Text() + "\n" : OutcomeText(outcome));
  if (!written.ok()) return written;
  return OutcomeOf(outcome.job, flags.server);
}

absl::Status RunCancel(const JobsFlags& flags, Interrupt& interrupt) {
  JobsCall call(flags, interrupt);
  const auto job = CancelJob(call.server, call.calls, FullJobName(flags.job));
  if (!job.ok()) return job.status();
  return WriteJob(*job, flags.json);
}

absl::Status RunDelete(const JobsFlags& flags, Interrupt& interrupt) {
  JobsCall call(flags, interrupt);
  return DeleteJob(call.server, call.calls, FullJobName(flags.job));
}

absl::Status RunDownload(const JobsFlags& flags, Interrupt& interrupt) {
  if (auto free = CheckOutputDirectory(AbsolutePath(flags.directory)); !free.ok()) return free;
  JobsCall call(flags, interrupt);
  const auto job = GetJob(call.server, call.calls, FullJobName(flags.job));
  if (!job.ok()) return job.status();
  if (job->state() != v1::JOB_STATE_SUCCEEDED || job->files().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(job->name(), " is ", StateText(job->state()), " and has ", job->files_size(),
                     " result files; expected one that succeeded, with files"));
  }
  auto directory = ResultDirectory::Create(flags.directory);
  if (!directory.ok()) return directory.status();
  {
    JobDisplay display(stderr, StyleFor(stderr));
    for (const v1::ResultFile& file : job->files()) {
      display.Expect(JobDisplay::Way::kDownload, file.digest().size_bytes());
    }
    for (const v1::ResultFile& file : job->files()) {
      const absl::Status downloaded = DownloadResultFile(
          call.server, call.calls, file, *directory,
          [&](int64_t bytes) { display.Add(JobDisplay::Way::kDownload, bytes); });
      if (call.calls.Cancelled()) return absl::CancelledError("interrupted; nothing was written");
      if (!downloaded.ok()) return downloaded;
    }
  }
  if (auto committed = directory->Commit(); !committed.ok()) return committed;
  return flags.json ? WriteJob(*job, true) : absl::OkStatus();
}

}  // namespace

std::vector<Command> AddJobsCommands(CLI::App& app) {
  CLI::App* jobs = app.add_subcommand("jobs", "List, watch, cancel, delete or download jobs");
  jobs->require_subcommand(1);
  const auto flags = std::make_shared<JobsFlags>();
  const auto add = [&](const char* name, const char* what, bool of_a_job,
                       absl::Status (*run)(const JobsFlags&, Interrupt&)) {
    CLI::App* command = jobs->add_subcommand(name, what);
    AddServerOption(*command, flags->server);
    AddJsonOption(*command, flags->json);
    if (of_a_job)
      command->add_option("job", flags->job, "Name of the job")->check(Given("a name"))->required();
    return Command{command, [flags, run](Interrupt& interrupt) { return run(*flags, interrupt); }};
  };
  std::vector<Command> commands = {
      add("list", "All jobs, newest first", false, RunList),
      add("watch", "Follow a job to its end; its outcome is the exit code", true, RunWatch),
      add("cancel", "Stop a job", true, RunCancel),
      add("delete", "Forget a job that ended, and its result", true, RunDelete),
      add("download", "Result files of a job to a directory", true, RunDownload)};
  commands.back()
      .arguments->add_option("directory", flags->directory, "Directory to make; absent or empty")
      ->check(Given(kPath))
      ->required();
  return commands;
}

}  // namespace salient::client
