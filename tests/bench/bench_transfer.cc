// Upload and download of one blob through a real salientd, beside what the parts cost.
//
//   bench_transfer --salientd PROGRAM --directory DIRECTORY [--mebibytes N] [--rounds N]
//
// The parts, each alone and on the same bytes: the bare stream (gRPC messages of one chunk to a
// server in this process that drops them), sha256 and crc32c on one thread, writing a file and
// syncing it. The floor lets all that can overlap do so. The client must hash a file before it may
// name it, then
//
//   upload   = sha256 + max(stream, crc32c, crc32c + sha256 + write)
//   download = max(stream, crc32c + sha256, crc32c + sha256)
//
// where the terms of max are the wire, the client's thread and the server's (one blob is one
// sequence there). Each number is the best of the rounds, which take turns.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/transfer/blob_download.h"
#include "client/transfer/blob_upload.h"
#include "client/transfer/call_group.h"
#include "client/transfer/channel.h"
#include "client/transfer/file_digest.h"
#include "client/transfer/local_blob.h"
#include "client/transfer/retry.h"
#include "grpcpp/grpcpp.h"
#include "proto/wire/chunk.h"
#include "proto/wire/crc32c.h"
#include "salient/v1/blob_service.grpc.pb.h"
#include "tests/bench/live_server.h"

namespace salient::bench {
namespace {

struct Flags {
  std::string salientd;
  std::string directory;
  int64_t mebibytes = 512;
  int rounds = 3;
};

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::InternalError(status.error_message());
}

// Takes and gives chunks, and does nothing else with them.
class BareService final : public v1::BlobService::Service {
 public:
  grpc::Status WriteBlob(grpc::ServerContext* /*context*/,
                         grpc::ServerReader<v1::WriteBlobRequest>* reader,
                         v1::WriteBlobResponse* response) override {
    v1::WriteBlobRequest request;
    while (reader->Read(&request)) continue;
    response->set_complete(true);
    return grpc::Status::OK;
  }
  grpc::Status ReadBlob(grpc::ServerContext* /*context*/, const v1::ReadBlobRequest* request,
                        grpc::ServerWriter<v1::ReadBlobResponse>* writer) override {
    v1::ReadBlobResponse response;
    response.mutable_chunk()->mutable_data()->assign(kChunkBytes, 'x');
    for (int64_t sent = 0; sent < request->limit_bytes(); sent += kChunkBytes) {
      response.mutable_chunk()->set_offset_bytes(sent);
      if (!writer->Write(response)) break;
    }
    return grpc::Status::OK;
  }
};

absl::Status BareUpload(v1::BlobService::Stub& stub, const std::string& bytes) {
  grpc::ClientContext context;
  v1::WriteBlobResponse response;
  const auto stream = stub.WriteBlob(&context, &response);
  v1::WriteBlobRequest request;
  const auto total = static_cast<int64_t>(bytes.size());
  for (int64_t offset = 0; offset < total; offset += kChunkBytes) {
    request.mutable_chunk()->set_offset_bytes(offset);
    request.mutable_chunk()->mutable_data()->assign(bytes, static_cast<size_t>(offset),
                                                    kChunkBytes);
    if (!stream->Write(request)) break;
  }
  stream->WritesDone();
  return FromGrpc(stream->Finish());
}

absl::Status BareDownload(v1::BlobService::Stub& stub, int64_t bytes) {
  grpc::ClientContext context;
  v1::ReadBlobRequest request;
  request.set_limit_bytes(bytes);
  const auto stream = stub.ReadBlob(&context, request);
  v1::ReadBlobResponse response;
  while (stream->Read(&response)) continue;
  return FromGrpc(stream->Finish());
}

absl::Status WriteAndSync(const std::string& path, const std::string& bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool good = fd >= 0;
  for (size_t at = 0; good && at < bytes.size(); at += kChunkBytes) {
    const size_t size = std::min<size_t>(kChunkBytes, bytes.size() - at);
    good = write(fd, bytes.data() + at, size) == static_cast<ssize_t>(size);
  }
  good = good && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  std::filesystem::remove(path);
  return good ? absl::OkStatus() : absl::InternalError(absl::StrCat("cannot write ", path));
}

std::string RandomBytes(int64_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(static_cast<size_t>(size), '\0');
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
  return bytes;
}

// Keeps the best seconds by name.
class Best {
 public:
  absl::Status Time(const std::string& name, absl::FunctionRef<absl::Status()> work) {
    const auto start = std::chrono::steady_clock::now();
    absl::Status status = work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    const auto [found, first] = seconds_.try_emplace(name, taken.count());
    if (!first) found->second = std::min(found->second, taken.count());
    return status;
  }
  double operator[](const std::string& name) const { return seconds_.at(name); }

 private:
  std::map<std::string, double> seconds_;
};

absl::Status Round(const Flags& flags, int round, const std::string& address,
                   v1::BlobService::Stub& bare, Best& best) {
  const std::string path = flags.directory + "/bench_transfer.bytes";
  // Other bytes each time: a store takes the same ones once.
  const std::string bytes = RandomBytes(flags.mebibytes << 20, static_cast<uint64_t>(round) + 1);
  std::ofstream(path, std::ios::binary) << bytes;

  client::JobServer server;
  server.address = address;
  server.channel = client::OpenChannel(address);
  client::CallGroup calls;
  client::LocalBlob blob;
  blob.source = path;
  volatile uint32_t sink = 0;
  const std::pair<const char*, std::function<absl::Status()>> parts[] = {
      {"stream up", [&] { return BareUpload(bare, bytes); }},
      {"stream down", [&] { return BareDownload(bare, flags.mebibytes << 20); }},
      {"sha256",
       [&] {
         sink = sink + client::DigestOfBytes(bytes).sha256()[0];
         return absl::OkStatus();
       }},
      {"crc32c",
       [&] {
         sink = sink + Crc32c(bytes);
         return absl::OkStatus();
       }},
      {"write", [&] { return WriteAndSync(path + ".copy", bytes); }},
      {"upload",
       [&]() -> absl::Status {
         auto digest = client::DigestOfFile(path, [](int64_t /*bytes*/) { return true; });
         if (!digest.ok()) return digest.status();
         blob.digest = *std::move(digest);
         return client::UploadBlob(server, calls, blob, [](int64_t /*bytes*/) {});
       }},
      {"download",
       [&] {
         return client::DownloadBlob(server, calls, blob.digest,
                                     [](absl::string_view /*bytes*/) { return absl::OkStatus(); });
       }},
  };
  absl::Status status;
  for (const auto& [name, work] : parts) {
    if (status = best.Time(name, work); !status.ok()) break;
  }
  std::filesystem::remove(path);
  return status;
}

absl::Status Run(const Flags& flags) {
  std::filesystem::create_directories(flags.directory);
  const std::string store = flags.directory + "/bench_transfer.store";
  std::filesystem::remove_all(store);
  const std::string log = flags.directory + "/bench_transfer.log";
  auto server = LiveServer::Start(flags.salientd, {"--store-directory", store}, log);
  if (!server.ok()) return server.status();

  BareService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> bare_server = builder.BuildAndStart();
  const auto bare = v1::BlobService::NewStub(client::OpenChannel(absl::StrCat("127.0.0.1:", port)));

  Best best;
  absl::Status status;
  for (int round = 0; round < flags.rounds && status.ok(); ++round) {
    status = Round(flags, round, server->address(), *bare, best);
  }
  const double cpu = server->CpuSeconds();
  bare_server->Shutdown();
  { const LiveServer ended = *std::move(server); }
  std::filesystem::remove_all(store);
  if (!status.ok()) return status;

  const double mebibytes = static_cast<double>(flags.mebibytes);
  const auto show = [&](const char* name, double seconds) {
    std::printf("%-16s %8.3f s %8.0f MiB/s\n", name, seconds, mebibytes / seconds);
  };
  std::printf("%lld MiB, best of %d\n", static_cast<long long>(flags.mebibytes), flags.rounds);
  for (const char* name : {"stream up", "stream down", "sha256", "crc32c", "write"}) {
    show(name, best[name]);
  }
  const double up =
      best["sha256"] + std::max(best["stream up"], best["crc32c"] + best["sha256"] + best["write"]);
  const double down = std::max(best["stream down"], best["crc32c"] + best["sha256"]);
  show("upload", best["upload"]);
  show("its floor", up);
  show("download", best["download"]);
  show("its floor", down);
  std::printf("server CPU %.3f s for all of it\n", cpu);
  std::printf("share of the floor's speed: upload %.2f, download %.2f\n", up / best["upload"],
              down / best["download"]);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Upload and download beside what their parts cost", "bench_transfer");
  app.add_option("--salientd", flags.salientd, "The server's program")->required();
  app.add_option("--directory", flags.directory, "For the store and a file; the disk to measure")
      ->required();
  app.add_option("--mebibytes", flags.mebibytes, "Of the blob")->check(CLI::Range(1, 1 << 14));
  app.add_option("--rounds", flags.rounds, "The best counts")->check(CLI::Range(1, 100));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Run(flags);
  if (!status.ok()) std::fprintf(stderr, "bench_transfer: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace salient::bench

int main(int argc, char** argv) { return salient::bench::Main(argc, argv); }
