// Is a server with blobs in memory and one job that does what a test says, for the tests of the
// client.
#ifndef SALIENT_TESTS_CLIENT_FAKE_JOB_SERVER_H_
#define SALIENT_TESTS_CLIENT_FAKE_JOB_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/transfer/retry.h"
#include "grpcpp/support/status.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

class FakeJobServer {
 public:
  FakeJobServer();
  ~FakeJobServer();

  // Opens a channel to it, with a policy that waits for milliseconds instead of seconds.
  JobServer Connect() const;

  // --- Blobs ---
  // Puts a blob there; returns its name.
  v1::Digest Hold(const std::string& content);
  // Makes `bytes` what others have sent of a blob.
  void Commit(const v1::Digest& digest, const std::string& bytes);
  bool Has(const v1::Digest& digest) const;
  // Waits until it is there. Returns false after a minute.
  bool WaitFor(const v1::Digest& digest) const;
  // Digests in the order in which uploads were finished.
  std::vector<std::string> Uploaded() const;
  // Returns the bytes of chunks that came, again ones included.
  int64_t ReceivedBytes() const;

  // The next WriteBlob or ReadBlob ends with `status` behind its `after_chunks`th chunk. An upload
  // keeps what came before.
  struct Break {
    int after_chunks = 0;
    grpc::Status status;
  };
  void BreakNextUpload(Break fault);
  void BreakNextDownload(Break fault);
  // Changes every chunk of the next `downloads` ReadBlobs before it is sent.
  void SpoilDownloads(int downloads, std::function<void(v1::Chunk& chunk)> spoil);

  // --- The job ---
  // What WatchJob sends, with revisions from 1, before the job is as `ended` says; `before_event`
  // is called in front of each (and with the number of events in front of the end).
  struct Script {
    std::vector<v1::JobEvent> events;
    v1::Job ended;
    std::function<void(int index)> before_event = [](int) {};
    bool never_ends = false;        // It does not end unless it is cancelled.
    bool ends_before_that = false;  // The cancelling comes too late: it is as `ended` says.
  };
  void Play(Script script);
  // Breaks WatchJob behind these events, once each.
  void BreakWatchAfter(std::vector<int> events);
  // Does as after a restart: later calls do not find the job.
  void ForgetJob();
  // Answers the next CreateJob.
  void RefuseNextJob(grpc::Status status);
  // Returns that of the last CreateJob.
  v1::CreateJobRequest Request() const;
  bool Cancelled() const;
  int Watches() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace salient::client

#endif  // SALIENT_TESTS_CLIENT_FAKE_JOB_SERVER_H_
