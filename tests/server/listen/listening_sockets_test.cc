#include "server/listen/listening_sockets.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

bool IsConnected(const Descriptor& socket) {
  pollfd polled = {socket.number(), POLLOUT, 0};
  int error = 0;
  socklen_t bytes = sizeof(error);
  return poll(&polled, 1, 10'000) == 1 &&
         getsockopt(socket.number(), SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 && error == 0;
}

TEST(ListeningSocketsTest, PortZeroTakesOneThatIsFree) {
  const auto first = ListenOn("127.0.0.1:0");
  const auto second = ListenOn("127.0.0.1:0");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_GT(first->port, 0);
  EXPECT_NE(first->port, second->port);
  const auto client = BeginConnect(absl::StrCat("127.0.0.1:", first->port));
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_TRUE(IsConnected(*client));
}

TEST(ListeningSocketsTest, EverywhereIsReachedFromHere) {
  for (const char* address : {"0.0.0.0:0", "[::]:0", "localhost:0"}) {
    const auto listening = ListenOn(address);
    ASSERT_TRUE(listening.ok()) << listening.status();
    const std::string local = LocalAddress(address, listening->port);
    const auto client = BeginConnect(local);
    ASSERT_TRUE(client.ok()) << local << ": " << client.status();
    EXPECT_TRUE(IsConnected(*client)) << local;
  }
}

TEST(ListeningSocketsTest, APortInUseIsRefusedByName) {
  const auto first = ListenOn("127.0.0.1:0");
  ASSERT_TRUE(first.ok());
  for (const std::string host : {"127.0.0.1", "0.0.0.0", "localhost"}) {
    const std::string address = absl::StrCat(host, ":", first->port);
    const absl::Status taken = ListenOn(address).status();
    EXPECT_EQ(taken.code(), absl::StatusCode::kInvalidArgument) << taken;
    EXPECT_NE(taken.message().find(address), absl::string_view::npos) << taken;
    EXPECT_NE(taken.message().find("in use"), absl::string_view::npos) << taken;
  }
}

TEST(ListeningSocketsTest, AddressesOfOthersAreRefused) {
  for (const char* address : {"192.0.2.1:0", "no.such.host.invalid:0"}) {
    const absl::Status status = ListenOn(address).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_NE(status.message().find(address), absl::string_view::npos) << status;
  }
}

TEST(ListeningSocketsTest, KnowsWhereItIsReached) {
  EXPECT_EQ(LocalAddress("0.0.0.0:0", 7), "127.0.0.1:7");
  EXPECT_EQ(LocalAddress("[::]:8443", 7), "127.0.0.1:7");
  EXPECT_EQ(LocalAddress("[::1]:8443", 7), "[::1]:7");
  EXPECT_EQ(LocalAddress("10.1.2.3:8443", 7), "10.1.2.3:7");
}

}  // namespace
}  // namespace salient
