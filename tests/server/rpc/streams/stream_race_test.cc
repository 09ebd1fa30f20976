// Streams that end in the moments that client libraries seldom meet. A fault here is a crash, or a
// report of a sanitizer.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "proto/wire/sha256.h"
#include "salient/v1/blob_service.pb.h"
#include "salient/v1/quantization_service.pb.h"
#include "server/config.h"
#include "server/server.h"
#include "server/store/digest.h"
#include "tests/server/rpc/http2_client.h"

namespace salient {
namespace {

constexpr char kQuantizeTensors[] = "/salient.v1.QuantizationService/QuantizeTensors";
constexpr char kWatchJob[] = "/salient.v1.QuantizationService/WatchJob";
constexpr char kReadBlob[] = "/salient.v1.BlobService/ReadBlob";
constexpr char kWriteBlob[] = "/salient.v1.BlobService/WriteBlob";
constexpr uint32_t kNarrow = 16;  // A stream has so many bytes, less than any message.
constexpr uint32_t kWide = 1 << 20;
constexpr int kStreams = 40;  // A connection has so many.
constexpr absl::Duration kPatience = absl::Seconds(60);

std::unique_ptr<Server> StartServer() {
  ServerConfig config;
  config.listen = "127.0.0.1:0";
  config.workers = 2;
  config.memory_bytes = int64_t{1} << 30;
  config.call_memory_bytes = int64_t{16} << 20;
  auto server = Server::Start(config);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

// Makes one Linear [8, 16] of ones and one token, complete.
std::vector<std::string> GoodGroup() {
  v1::QuantizeTensorsRequest options;
  options.mutable_options()->mutable_format()->set_group_size(-1);
  options.mutable_options()->mutable_method()->set_scale(v1::SCALE_NONE);
  options.mutable_options()->mutable_method()->set_range(v1::RANGE_MIN_MAX);
  options.mutable_options()->mutable_method()->set_rounding(v1::ROUNDING_NEAREST);
  v1::QuantizeTensorsRequest group;
  group.mutable_group()->set_name("g");
  group.mutable_group()->set_in_features(16);
  group.mutable_group()->set_activation_dtype(v1::DATA_TYPE_F32);
  v1::LinearHeader& linear = *group.mutable_group()->add_linears();
  linear.set_name("g.linear");
  linear.set_dtype(v1::DATA_TYPE_F16);
  linear.set_out_features(8);
  v1::QuantizeTensorsRequest weight;
  std::string ones;
  for (int i = 0; i < 8 * 16; ++i) ones += std::string("\x00\x3C", 2);
  weight.mutable_weight()->mutable_chunk()->set_data(ones);
  v1::QuantizeTensorsRequest activations;
  activations.mutable_activations()->set_data(std::string(64, '\x3F'));
  v1::QuantizeTensorsRequest end;
  end.mutable_end_group();
  std::vector<std::string> messages;
  for (const auto* message : {&options, &group, &weight, &activations, &end}) {
    messages.push_back(message->SerializeAsString());
  }
  return messages;
}

// Makes the end of a group where none is open.
std::string OutOfOrder() { return GoodGroup().back(); }

// Opens streams whose group is quantized and whose first result waits for the window.
std::vector<uint32_t> OpenStalled(Http2Client& client) {
  std::vector<uint32_t> streams;
  for (int i = 0; i < kStreams; ++i) {
    streams.push_back(client.Open(kQuantizeTensors));
    for (const std::string& message : GoodGroup()) client.Send(streams.back(), message);
  }
  std::set<uint32_t> stalled;
  EXPECT_TRUE(client.ReadUntil(
      [&](const Http2Client::Frame& frame) {
        if (frame.IsData()) stalled.insert(frame.stream);
        return stalled.size() == streams.size();
      },
      kPatience));
  return streams;
}

// Waits for nothing up to about a millisecond, by turns.
void Pause(int turn) {
  constexpr int kMicroseconds[] = {0, 0, 10, 50, 100, 300, 1000};
  if (const int pause = kMicroseconds[turn % 7]; pause > 0) {
    absl::SleepFor(absl::Microseconds(pause));
  }
}

// Tells whether the server still quantizes for a client that behaves.
bool Serves(const Server& server) {
  const auto client = Http2Client::Connect(server.port(), kWide);
  if (client == nullptr) return false;
  const uint32_t stream = client->Open(kQuantizeTensors);
  for (const std::string& message : GoodGroup()) client->Send(stream, message);
  client->EndInput(stream);
  return client->ReadUntil([](const Http2Client::Frame& frame) { return frame.IsTrailers(); },
                           kPatience);
}

// Fails calls whose first result waits for the window, and has `then` done to each stream next.
void FailStalledCalls(int connections, void (Http2Client::*then)(uint32_t stream)) {
  const auto server = StartServer();
  ASSERT_NE(server, nullptr);
  for (int connection = 0; connection < connections; ++connection) {
    const auto client = Http2Client::Connect(server->port(), kNarrow);
    ASSERT_NE(client, nullptr);
    int turn = connection;
    for (const uint32_t stream : OpenStalled(*client)) {
      client->Send(stream, OutOfOrder());
      Pause(turn++);
      (client.get()->*then)(stream);
    }
  }
  EXPECT_TRUE(Serves(*server));
}

TEST(StreamRaceTest, ACallFailsWhileItsWriteEnds) { FailStalledCalls(12, &Http2Client::Widen); }

TEST(StreamRaceTest, ACallFailsWhileItIsReset) { FailStalledCalls(6, &Http2Client::Reset); }

TEST(StreamRaceTest, BlobStreamsAreResetAtAnyMoment) {
  const auto server = StartServer();
  ASSERT_NE(server, nullptr);
  const std::string data(4096, 'x');
  Sha256 sha256;
  sha256.Update(data);
  const Digest digest = DigestOf(sha256);
  v1::WriteBlobRequest begin, chunk, finish;
  begin.mutable_digest()->set_sha256(HexSha256(digest));
  begin.mutable_digest()->set_size_bytes(digest.size_bytes);
  chunk.mutable_chunk()->set_data(data);
  finish.mutable_finish();
  v1::ReadBlobRequest read;
  *read.mutable_digest() = begin.digest();
  for (int connection = 0; connection < 6; ++connection) {
    const auto client = Http2Client::Connect(server->port(), kNarrow);
    ASSERT_NE(client, nullptr);
    for (int turn = 0; turn < 12; ++turn) {
      const uint32_t writer = client->Open(kWriteBlob);
      for (const auto* message : {&begin, &chunk, &finish}) {
        client->Send(writer, message->SerializeAsString());
      }
      const uint32_t reader = client->Open(kReadBlob);
      client->Send(reader, read.SerializeAsString());
      client->EndInput(reader);
      Pause(turn);
      // The blob is there when the first writer's answer is.
      if (turn > 0) client->Reset(writer);
      if (turn % 2 == 0) client->Widen(reader);
      Pause(turn + connection);
      client->Reset(reader);
    }
  }
  EXPECT_TRUE(Serves(*server));
}

TEST(StreamRaceTest, AWatchIsResetWhileItIsRefused) {
  const auto server = StartServer();
  ASSERT_NE(server, nullptr);
  v1::WatchJobRequest request;
  request.set_name("jobs/none");
  const auto client = Http2Client::Connect(server->port(), kWide);
  ASSERT_NE(client, nullptr);
  for (int turn = 0; turn < 200; ++turn) {
    const uint32_t stream = client->Open(kWatchJob);
    client->Send(stream, request.SerializeAsString());
    client->EndInput(stream);
    Pause(turn);
    client->Reset(stream);
  }
  EXPECT_TRUE(Serves(*server));
}

// What its calls share goes with the server, and may not be touched by what is left of them.
TEST(StreamRaceTest, TheServerStopsUnderStalledStreams) {
  for (int round = 0; round < 4; ++round) {
    auto server = StartServer();
    ASSERT_NE(server, nullptr);
    const auto client = Http2Client::Connect(server->port(), kNarrow);
    ASSERT_NE(client, nullptr);
    const std::vector<uint32_t> streams = OpenStalled(*client);
    std::thread stop([&] { server = nullptr; });
    for (const uint32_t stream : streams) {
      client->Widen(stream);
      Pause(round);
    }
    stop.join();
  }
}

}  // namespace
}  // namespace salient
