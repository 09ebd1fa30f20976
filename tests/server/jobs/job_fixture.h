// Provides a store, workers and a job table for tests.
#ifndef SALIENT_TESTS_SERVER_JOBS_JOB_FIXTURE_H_
#define SALIENT_TESTS_SERVER_JOBS_JOB_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/shard_index.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "server/store/blob_reader.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/store/upload.h"
#include "tests/server/jobs/tiny_model.h"
#include "tests/server/store/temporary_directory.h"

namespace salient::testing {

// Everything a client does with a job table, in one place.
class JobBench {
 public:
  explicit JobBench(int workers = 2, std::function<void(JobTableSettings&)> change = {},
                    const BlobStoreLimits& limits = {})
      : pool_(workers) {
    limits_ = limits;
    store_ = Must(BlobStore::Open((directory_ / "store").string(), limits));
    settings_.work_directory = (directory_ / "work").string();
    settings_.model_root = (directory_ / "models").string();
    settings_.output_root = (directory_ / "outputs").string();
    for (const std::string& root : {settings_.model_root, settings_.output_root}) {
      std::filesystem::create_directories(root);
    }
    if (change) change(settings_);
    table_ = Must(JobTable::Create(settings_, *store_, pool_));
  }

  JobTable& table() { return *table_; }
  BlobStore& store() { return *store_; }
  WorkerPool& pool() { return pool_; }
  TemporaryDirectory& directory() { return directory_; }
  void Close() { table_.reset(); }
  // Acts as if the process had begun anew: all jobs are gone.
  void Restart() {
    table_.reset();
    store_.reset();
    store_ = Must(BlobStore::Open((directory_ / "store").string(), limits_));
    table_ = Must(JobTable::Create(settings_, *store_, pool_));
  }

  // Sends `content` up to `end`, in chunks; finishes it if that is all.
  absl::Status Send(const Digest& digest, const std::string& content, size_t end,
                    size_t chunk = 4096) {
    absl::StatusOr<Upload> upload = store_->BeginUpload(digest);
    if (absl::IsAlreadyExists(upload.status())) return absl::OkStatus();
    if (!upload.ok()) return upload.status();
    for (size_t at = static_cast<size_t>(upload->committed_bytes()); at < end;) {
      const size_t size = std::min(chunk, end - at);
      absl::Status status =
          upload->Append(static_cast<int64_t>(at), absl::string_view(content).substr(at, size));
      if (!status.ok()) return status;
      table_->BlobChanged(digest);
      at += size;
    }
    if (end < content.size()) return absl::OkStatus();
    absl::Status status = upload->Finish();
    table_->BlobChanged(digest);
    return status;
  }
  absl::Status Send(const std::string& content, size_t chunk = 4096) {
    return Send(DigestOf(content), content, content.size(), chunk);
  }
  void SendAll(const Files& files) {
    for (const auto& [name, content] : files) {
      if (name == "pytorch_model.bin") continue;
      ASSERT_TRUE(Send(content).ok()) << name;
    }
  }

  // Gives config and index inline, and the headers if asked for.
  static ModelSource Manifest(const Files& files, bool with_headers = false) {
    ModelSource source;
    for (const auto& [name, content] : files) {
      ModelFile file{name, DigestOf(content), std::nullopt};
      if (name == "config.json" || name == kShardIndexName) file.inline_content = content;
      if (with_headers && name.find(".safetensors") != name.npos && name != kShardIndexName) {
        file.inline_content = HeaderOf(content);
      }
      source.files.push_back(std::move(file));
    }
    return source;
  }

  static JobSpec Spec(ModelSource model, decltype(JobSpec::task) task) {
    JobSpec spec;
    spec.model = std::move(model);
    spec.task = std::move(task);
    return spec;
  }
  static JobSpec Quantize(ModelSource model, const std::string& tokens) {
    QuantizeTask task;
    task.calibration.tokens = DigestOf(tokens);
    task.formats[0].format.group_size = 16;
    JobSpec spec = Spec(std::move(model), task);
    spec.serialized = absl::StrCat("spec", spec.model.path, tokens.size());
    return spec;
  }

  std::string WriteModel(const std::string& name, const Files& files) {
    const std::filesystem::path path = std::filesystem::path(settings_.model_root) / name;
    for (const auto& [file, content] : files) WriteFile(path / file, content);
    return path.string();
  }

  JobSnapshot Submit(JobSpec spec, const std::string& id = "") {
    return Must(table_->Submit(std::move(spec), id, "", false));
  }

  // Returns all events up to the first that satisfies `enough`, or the end.
  std::vector<JobEvent> WatchUntil(const std::string& name,
                                   const std::function<bool(const JobEvent&)>& enough,
                                   int64_t after = 0) {
    std::mutex mu;
    std::condition_variable woken;
    bool wake = false;
    const std::unique_ptr<JobWatch> watch = Must(table_->Watch(name, after, [&] {
      const std::lock_guard<std::mutex> lock(mu);
      wake = true;
      woken.notify_all();
    }));
    std::vector<JobEvent> events;
    while (true) {
      const JobWatch::Batch batch = watch->Take(3);
      for (const JobEvent& event : batch.events) {
        events.push_back(event);
        if (enough(event)) return events;
      }
      if (batch.ended) return events;
      if (!batch.events.empty()) continue;
      std::unique_lock<std::mutex> lock(mu);
      woken.wait(lock, [&] { return wake; });
      wake = false;
    }
  }
  std::vector<JobEvent> WatchToEnd(const std::string& name, int64_t after = 0) {
    return WatchUntil(
        name, [](const JobEvent&) { return false; }, after);
  }
  JobSnapshot Finish(const std::string& name) {
    WatchToEnd(name);
    return Must(table_->Get(name));
  }

  std::string Read(const Digest& digest) {
    BlobReader reader = Must(store_->Read(digest));
    return Must(reader.Next(std::max<int64_t>(1, digest.size_bytes)));
  }

  // Returns all of a file, from its parts.
  std::string Read(const ResultFile& file) {
    std::string whole;
    for (const Digest& part : file.parts) whole += Read(part);
    return whole;
  }

  // A result, written to `name` below the output root, becomes a model of that name.
  void MakeModelOfOutput(const std::string& name) {
    std::filesystem::rename(std::filesystem::path(settings_.output_root) / name,
                            std::filesystem::path(settings_.model_root) / name);
  }

  bool WorkDirectoryIsEmpty() const { return std::filesystem::is_empty(settings_.work_directory); }

 private:
  TemporaryDirectory directory_;
  JobTableSettings settings_;
  BlobStoreLimits limits_;
  std::unique_ptr<BlobStore> store_;
  WorkerPool pool_;
  std::unique_ptr<JobTable> table_;
};

inline std::map<std::string, Digest> DigestsOf(const JobSnapshot& job) {
  std::map<std::string, Digest> digests;
  for (const ResultFile& file : job.files) digests[file.name] = file.digest;
  return digests;
}

// Three blocks, tokens and a table for them.
class JobTest : public ::testing::Test {
 protected:
  explicit JobTest(Files model = MakeModel({})) : model_(std::move(model)) {}

  // Sends what a client sends before the job.
  void SendAll() {
    bench_.SendAll(model_);
    ASSERT_TRUE(bench_.Send(tokens_).ok());
  }
  // Runs a job to its end, which must be a good one.
  JobSnapshot Run(JobSpec spec) {
    const JobSnapshot job = bench_.Finish(bench_.Submit(std::move(spec)).name);
    EXPECT_EQ(job.state, JobState::kSucceeded) << job.error;
    return job;
  }
  std::vector<std::string> Warnings(const std::string& name) {
    std::vector<std::string> warnings;
    for (const JobEvent& event : bench_.WatchToEnd(name)) {
      const auto* warning = std::get_if<JobWarning>(&event.what);
      if (warning != nullptr) warnings.push_back(warning->text);
    }
    return warnings;
  }

  const Files model_;
  const std::string tokens_ = MakeTokens(3, 20, 40, 11);
  JobBench bench_;
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SERVER_JOBS_JOB_FIXTURE_H_
