#include "server/listen/connection_acceptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

// Waits, for a bounded time, until `is_so` returns true.
bool Becomes(const std::function<bool()>& is_so) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!is_so()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// Keeps what it is given, as a transport does.
class Transport {
 public:
  explicit Transport(int64_t max_connections) {
    auto listening = ListenOn("127.0.0.1:0");
    EXPECT_TRUE(listening.ok()) << listening.status();
    address_ = absl::StrCat("127.0.0.1:", listening->port);
    acceptor_.emplace(*std::move(listening), max_connections, [this](int /*listener*/, int socket) {
      const std::lock_guard<std::mutex> lock(mu_);
      taken_.emplace_back(socket);
    });
  }

  Descriptor Connect() const {
    auto socket = BeginConnect(address_);
    EXPECT_TRUE(socket.ok()) << socket.status();
    return socket.ok() ? *std::move(socket) : Descriptor();
  }
  size_t taken() {
    const std::lock_guard<std::mutex> lock(mu_);
    return taken_.size();
  }
  void CloseOldest() {
    const std::lock_guard<std::mutex> lock(mu_);
    taken_.erase(taken_.begin());
  }
  ConnectionAcceptor& acceptor() { return *acceptor_; }

 private:
  std::string address_;
  std::mutex mu_;
  std::vector<Descriptor> taken_;
  std::optional<ConnectionAcceptor> acceptor_;  // It stands last, because it calls.
};

bool IsClosedByPeer(const Descriptor& socket) {
  char byte = 0;
  const ssize_t read = recv(socket.number(), &byte, 1, MSG_DONTWAIT);
  return read == 0 || (read < 0 && errno == ECONNRESET);
}

TEST(ConnectionAcceptorTest, HandsOnAsManyAsAllowedAndClosesTheRest) {
  Transport transport(2);
  std::vector<Descriptor> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(transport.Connect());
  EXPECT_TRUE(Becomes([&] {
    const ConnectionAcceptor::Stats stats = transport.acceptor().GetStats();
    return stats.accepted_total == 2 && stats.refused_by_limit_total == 1;
  }));
  EXPECT_TRUE(Becomes([&] { return IsClosedByPeer(clients[2]); }));
  EXPECT_FALSE(IsClosedByPeer(clients[0]));
  EXPECT_EQ(transport.acceptor().GetStats().open, 2);
  // The owner closes each descriptor, and its number may become a file's.
  transport.CloseOldest();
  const Descriptor file(open("/dev/null", O_RDONLY));
  EXPECT_EQ(transport.acceptor().GetStats().open, 1);
  clients.push_back(transport.Connect());
  EXPECT_TRUE(Becomes([&] { return transport.taken() == 2; }));
  EXPECT_EQ(transport.acceptor().GetStats().open, 2);
}

TEST(ConnectionAcceptorTest, WhatItHandsOnDoesNotBlock) {
  Transport transport(4);
  const Descriptor client = transport.Connect();
  ASSERT_TRUE(Becomes([&] { return transport.taken() == 1; }));
  EXPECT_FALSE(IsClosedByPeer(client));
  transport.acceptor().Stop();
  transport.acceptor().Stop();  // A second one changes nothing.
  EXPECT_FALSE(IsClosedByPeer(client));
}

// Leaves the process one descriptor that it may still open.
class OneDescriptor {
 public:
  OneDescriptor() {
    getrlimit(RLIMIT_NOFILE, &before_);
    // No gaps are left.
    for (int i = 0; i < 32; ++i) fillers_.emplace_back(open("/dev/null", O_RDONLY));
    rlimit one = before_;
    one.rlim_cur = static_cast<rlim_t>(fillers_.back().number()) + 1;
    fillers_.pop_back();
    setrlimit(RLIMIT_NOFILE, &one);
  }
  ~OneDescriptor() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
  std::vector<Descriptor> fillers_;
};

TEST(ConnectionAcceptorTest, TakesConnectionsAgainAfterDescriptorsRanOut) {
  Transport transport(1000);
  {
    const OneDescriptor one;
    for (int i = 1; i <= 3; ++i) {
      const Descriptor client = transport.Connect();
      EXPECT_TRUE(
          Becomes([&] { return transport.acceptor().GetStats().refused_by_system_total >= i; }));
      EXPECT_TRUE(Becomes([&] { return IsClosedByPeer(client); }));
    }
    EXPECT_EQ(transport.taken(), 0u);
  }
  const Descriptor client = transport.Connect();
  EXPECT_TRUE(Becomes([&] { return transport.taken() == 1; }));
  EXPECT_FALSE(IsClosedByPeer(client));
}

}  // namespace
}  // namespace salient
