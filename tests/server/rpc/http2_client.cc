#include "tests/server/rpc/http2_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace salient {
namespace {

// These are frame types and flags of RFC 9113, section 6.
constexpr uint8_t kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kWindowUpdate = 8;
constexpr uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4;
constexpr uint16_t kInitialWindowSize = 4;
constexpr uint32_t kCancel = 8;
constexpr size_t kFrameHeaderBytes = 9;

std::string BigEndian(uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i));
  return text;
}

uint32_t FromBigEndian(absl::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

// A header as HPACK's literal without indexing; names and values are shorter than 127 bytes.
std::string Literal(absl::string_view name, absl::string_view value) {
  return absl::StrCat(BigEndian(0, 1), BigEndian(name.size(), 1), name, BigEndian(value.size(), 1),
                      value);
}

}  // namespace

std::unique_ptr<Http2Client> Http2Client::Connect(int port, uint32_t window_bytes) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return nullptr;
  std::unique_ptr<Http2Client> client(new Http2Client(fd));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return nullptr;
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  client->SendBytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  client->SendFrame(kSettings, 0, 0,
                    absl::StrCat(BigEndian(kInitialWindowSize, 2), BigEndian(window_bytes, 4)));
  const auto acknowledged = [](const Frame& frame) {
    return frame.type == kSettings && (frame.flags & kAck) != 0;
  };
  return client->ReadUntil(acknowledged, absl::Seconds(30)) ? std::move(client) : nullptr;
}

Http2Client::~Http2Client() { close(socket_); }

uint32_t Http2Client::Open(absl::string_view path) {
  const uint32_t stream = next_stream_;
  next_stream_ += 2;
  SendFrame(kHeaders, kEndHeaders, stream,
            absl::StrCat(Literal(":method", "POST"), Literal(":scheme", "http"),
                         Literal(":path", path), Literal(":authority", "x"),
                         Literal("te", "trailers"), Literal("content-type", "application/grpc")));
  return stream;
}

void Http2Client::Send(uint32_t stream, absl::string_view message) {
  SendFrame(kData, 0, stream, absl::StrCat(BigEndian(0, 1), BigEndian(message.size(), 4), message));
}

void Http2Client::EndInput(uint32_t stream) { SendFrame(kData, kEndStream, stream, ""); }

void Http2Client::Widen(uint32_t stream) {
  SendFrame(kWindowUpdate, 0, stream, BigEndian(1 << 20, 4));
}

void Http2Client::Reset(uint32_t stream) { SendFrame(kReset, 0, stream, BigEndian(kCancel, 4)); }

bool Http2Client::ReadUntil(absl::FunctionRef<bool(const Frame&)> done, absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  while (true) {
    while (unread_.size() >= kFrameHeaderBytes) {
      const absl::string_view head(unread_);
      const size_t size = kFrameHeaderBytes + FromBigEndian(head.substr(0, 3));
      if (unread_.size() < size) break;
      Frame frame{static_cast<uint8_t>(head[3]), static_cast<uint8_t>(head[4]),
                  FromBigEndian(head.substr(5, 4)),
                  unread_.substr(kFrameHeaderBytes, size - kFrameHeaderBytes)};
      unread_.erase(0, size);
      const bool asks = (frame.flags & kAck) == 0;
      if (asks && frame.type == kSettings) SendFrame(kSettings, kAck, 0, "");
      if (asks && frame.type == kPing) SendFrame(kPing, kAck, 0, frame.payload);
      if (done(frame)) return true;
    }
    pollfd wanted{socket_, POLLIN, 0};
    const int64_t left_ms = std::max<int64_t>(0, absl::ToInt64Milliseconds(end - absl::Now()));
    if (poll(&wanted, 1, static_cast<int>(left_ms)) <= 0) return false;
    char buffer[1 << 16];
    const ssize_t got = recv(socket_, buffer, sizeof(buffer), 0);
    if (got <= 0) return false;
    unread_.append(buffer, static_cast<size_t>(got));
  }
}

void Http2Client::SendFrame(uint8_t type, uint8_t flags, uint32_t stream,
                            absl::string_view payload) {
  SendBytes(absl::StrCat(BigEndian(payload.size(), 3), BigEndian(type, 1), BigEndian(flags, 1),
                         BigEndian(stream, 4), payload));
}

// A connection that broke is noticed by who reads.
void Http2Client::SendBytes(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

}  // namespace salient
