#include "client/jobs/session.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/jobs/model_upload.h"
#include "client/jobs/result_directory.h"
#include "client/jobs/task_kind.h"
#include "client/terminal/status_line.h"
#include "client/transfer/channel.h"
#include "client/transfer/local_blob.h"

namespace salient::client {

absl::StatusOr<JobSession> JobSession::Start(const SessionFlags& flags, v1::TaskKind task,
                                             const std::string& output, Interrupt& interrupt) {
  JobSession session;
  session.server_.address = flags.server;
  if (flags.server.empty()) {
    EmbeddedSettings settings = {
        .workers = flags.workers, .instruction_set = flags.instruction_set, .reads_models = true};
    if (!output.empty()) {
      auto store = AppearingDirectory::Create(output);
      if (!store.ok()) return store.status();
      session.store_.emplace(*std::move(store));
      // The store lies inside, because the directory itself is locked while it is in use.
      settings.store_directory = absl::StrCat(session.store_->path(), "/store");
    }
    auto embedded = EmbeddedServer::Start(settings);
    if (!embedded.ok()) return embedded.status();
    session.embedded_.emplace(*std::move(embedded));
    session.server_.address = session.embedded_->Address();
  }
  session.server_.channel = OpenChannel(session.server_.address);
  auto info =
      FetchServerInfo(session.server_.channel, session.server_.address, kAnswerTimeout, interrupt);
  if (!info.ok()) return info.status();
  if (auto does = CheckServerDoes(*info, task); !does.ok()) return does;
  session.info_ = *std::move(info);
  return session;
}

absl::Status JobSession::AddModel(const std::string& directory, int64_t inline_bytes,
                                  JobDisplay& display, Interrupt& interrupt,
                                  v1::ModelSource& source, JobPlan& plan) const {
  const std::string path = AbsolutePath(directory);
  if (!remote()) {
    source.set_path(path);
    return absl::OkStatus();
  }
  const auto bytes_to_hash = BytesToHash(path);
  if (!bytes_to_hash.ok()) return bytes_to_hash.status();
  display.Expect(JobDisplay::Way::kHash, *bytes_to_hash);
  auto upload = DescribeModel(path, inline_bytes, [&](int64_t bytes) {
    display.Add(JobDisplay::Way::kHash, bytes);
    return !interrupt.Raised();
  });
  if (interrupt.Raised()) return absl::CancelledError("interrupted; nothing was sent");
  if (!upload.ok()) return upload.status();
  *source.mutable_manifest() = std::move(upload->manifest);
  for (LocalBlob& blob : upload->first) plan.first.push_back(std::move(blob));
  for (LocalBlob& blob : upload->rest) plan.rest.push_back(std::move(blob));
  return absl::OkStatus();
}

absl::Status JobSession::AddHeaders(const std::string& directory, Interrupt& interrupt,
                                    v1::ModelSource& source, JobPlan& plan) const {
  const std::string path = AbsolutePath(directory);
  if (!remote()) {
    source.set_path(path);
    return absl::OkStatus();
  }
  auto described =
      DescribeHeaders(path, kInlineBytes, [&](int64_t) { return !interrupt.Raised(); });
  if (interrupt.Raised()) return absl::CancelledError("interrupted; nothing was sent");
  if (!described.ok()) return described.status();
  *source.mutable_manifest() = std::move(described->manifest);
  for (LocalBlob& blob : described->first) plan.first.push_back(std::move(blob));
  return absl::OkStatus();
}

absl::StatusOr<JobPlan> JobSession::Plan(Fill fill, JobDisplay& display) const {
  JobPlan plan;
  plan.after_interrupt = remote() ? "Run the same command again: the server keeps the bytes it has"
                                  : "Run the same command again";
  plan.tells_name = remote();
  if (auto filled = fill(display, plan); !filled.ok()) return filled;
  return plan;
}

absl::StatusOr<FinishedJob> JobSession::Run(Fill fill, Interrupt& interrupt) const {
  JobDisplay display(stderr, StyleFor(stderr));
  auto plan = Plan(fill, display);
  if (!plan.ok()) return plan.status();
  auto outcome = RunJob(server_, *std::move(plan), display, interrupt);
  if (!outcome.ok()) return Told(outcome.status());
  return outcome;
}

absl::StatusOr<EstimatedJob> JobSession::Estimate(Fill fill, Interrupt& interrupt) const {
  JobDisplay display(stderr, StyleFor(stderr));
  auto plan = Plan(fill, display);
  if (!plan.ok()) return plan.status();
  auto job = EstimateJob(server_, *std::move(plan), display, interrupt);
  if (!job.ok()) return Told(job.status());
  return job;
}

absl::Status JobSession::MissingResult(const v1::Job& job, absl::string_view what) const {
  return absl::InternalError(
      absl::StrCat("the server at ", server_.address, " ended ", job.name(), " without ", what));
}

}  // namespace salient::client
