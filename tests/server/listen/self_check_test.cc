#include "server/listen/self_check.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/listen/descriptor.h"
#include "server/listen/listening_sockets.h"

namespace salient {
namespace {

// Listens, blocking, and tells where.
struct Listener {
  Listener() : listening(ListenOn("127.0.0.1:0").value()) {}

  Descriptor Accept() {
    while (true) {
      Descriptor socket(accept4(listening.sockets[0].number(), nullptr, nullptr, SOCK_CLOEXEC));
      if (socket.is_open()) return socket;
      std::this_thread::yield();
    }
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", listening.port); }

  ListeningSockets listening;
};

TEST(SelfCheckTest, AnyAnswerWillDo) {
  Listener listener;
  std::string greeting(33, '\0');
  std::thread server([&] {
    const Descriptor socket = listener.Accept();
    EXPECT_EQ(recv(socket.number(), greeting.data(), greeting.size(), MSG_WAITALL), 33);
    EXPECT_EQ(send(socket.number(), "x", 1, 0), 1);
  });
  const absl::Status status = CheckAnswered(listener.address(), absl::Seconds(20));
  server.join();
  EXPECT_TRUE(status.ok()) << status;
  // The greeting is a client's preface, and an empty frame of settings.
  EXPECT_EQ(greeting.substr(0, 24), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_EQ(greeting.substr(24), std::string("\0\0\0\4\0\0\0\0\0", 9));
}

TEST(SelfCheckTest, AConnectionThatIsClosedWasAnswered) {
  Listener listener;
  std::thread server([&] { listener.Accept(); });
  const absl::Status status = CheckAnswered(listener.address(), absl::Seconds(20));
  server.join();
  EXPECT_TRUE(status.ok()) << status;
}

// The kernel completes connections to a listener that accepts none.
TEST(SelfCheckTest, SilenceIsNoAnswer) {
  const Listener listener;
  const absl::Status status = CheckAnswered(listener.address(), absl::Milliseconds(50));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
}

TEST(SelfCheckTest, WhereNobodyListensThereIsNone) {
  std::string address;
  {
    const Listener listener;
    address = listener.address();
  }
  const absl::Status status = CheckAnswered(address, absl::Seconds(20));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

}  // namespace
}  // namespace salient
