// HTTP/2 by hand, for what no client library does: windows of a few bytes, streams that are reset
// in the middle of a message.
#ifndef SALIENT_TESTS_SERVER_RPC_HTTP2_CLIENT_H_
#define SALIENT_TESTS_SERVER_RPC_HTTP2_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace salient {

// Is one connection to a port of 127.0.0.1. It honours none of the server's windows: a test sends
// less than 64 KiB on a connection. It is not thread-safe.
class Http2Client {
 public:
  struct Frame {
    uint8_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;
    std::string payload;

    bool IsData() const { return type == 0; }
    // Tells whether it is a stream's status.
    bool IsTrailers() const { return type == 1 && (flags & 1) != 0; }
  };

  // Returns a connection on which the server may send `window_bytes` of each stream; null if the
  // server does not answer.
  static std::unique_ptr<Http2Client> Connect(int port, uint32_t window_bytes);
  ~Http2Client();

  // Opens a stream for a gRPC method by its full path and returns its number.
  uint32_t Open(absl::string_view path);
  // Sends one gRPC message.
  void Send(uint32_t stream, absl::string_view message);
  void EndInput(uint32_t stream);
  // Lets the server send a mebibyte more, which is all that a test asks for.
  void Widen(uint32_t stream);
  void Reset(uint32_t stream);

  // Reads frames, and acknowledges what asks for it, until `done` returns true for one of them.
  // Returns false if that did not happen in time.
  bool ReadUntil(absl::FunctionRef<bool(const Frame&)> done, absl::Duration timeout);

 private:
  explicit Http2Client(int socket) : socket_(socket) {}

  void SendFrame(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload);
  void SendBytes(absl::string_view bytes);

  const int socket_;
  uint32_t next_stream_ = 1;
  std::string unread_;
};

}  // namespace salient

#endif  // SALIENT_TESTS_SERVER_RPC_HTTP2_CLIENT_H_
