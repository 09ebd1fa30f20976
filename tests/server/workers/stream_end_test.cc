#include "server/workers/stream_end.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace salient {
namespace {

// Records what the stream was finished with, and how often.
struct Finished {
  int times = 0;
  absl::Status status;
  StreamEnd end{[this](const absl::Status& decided) {
    ++times;
    status = decided;
  }};
};

TEST(StreamEndTest, FinishesWhenTheOperationThatDecidedEnds) {
  Finished stream;
  {
    const StreamEnd::Operation operation = stream.end.Begin();
    EXPECT_TRUE(stream.end.Decide(absl::AbortedError("first")));
    EXPECT_EQ(stream.times, 0);
  }
  EXPECT_EQ(stream.times, 1);
  EXPECT_EQ(stream.status, absl::AbortedError("first"));
}

TEST(StreamEndTest, WaitsForTheLastOperation) {
  Finished stream;
  StreamEnd::Operation write = stream.end.Begin();
  {
    const StreamEnd::Operation operation = stream.end.Begin();
    stream.end.Decide(absl::OkStatus());
  }
  EXPECT_EQ(stream.times, 0);
  EXPECT_TRUE(static_cast<bool>(stream.end.Begin())) << "may be used until it is finished";
  EXPECT_EQ(stream.times, 0);
  write = StreamEnd::Operation();
  EXPECT_EQ(stream.times, 1);
}

TEST(StreamEndTest, AMovedOperationCountsOnce) {
  Finished stream;
  StreamEnd::Operation first = stream.end.Begin();
  StreamEnd::Operation second = std::move(first);
  stream.end.Decide(absl::OkStatus());
  first = StreamEnd::Operation();
  EXPECT_EQ(stream.times, 0);
  second = StreamEnd::Operation();
  EXPECT_EQ(stream.times, 1);
}

TEST(StreamEndTest, TheFirstStatusIsKept) {
  Finished stream;
  const StreamEnd::Operation operation = stream.end.Begin();
  EXPECT_FALSE(stream.end.decided().has_value());
  EXPECT_TRUE(stream.end.Decide(absl::CancelledError("first")));
  EXPECT_FALSE(stream.end.Decide(absl::InternalError("second")));
  EXPECT_EQ(stream.end.decided(), absl::CancelledError("first"));
}

TEST(StreamEndTest, AFinishedStreamMayNotBeUsed) {
  Finished stream;
  {
    const StreamEnd::Operation operation = stream.end.Begin();
    stream.end.Decide(absl::OkStatus());
  }
  EXPECT_FALSE(static_cast<bool>(stream.end.Begin()));
  EXPECT_EQ(stream.times, 1);
}

// Holds what gRPC destroys when a stream is finished.
struct Context {
  std::atomic<bool> alive{true};
};

// Several threads end one stream; each asks the context after it said so, as reactors do. Under
// a sanitizer a use after the end is found for certain, else by what the memory holds by then.
TEST(StreamEndTest, TheContextOutlivesEveryOperation) {
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    auto context = std::make_unique<Context>();
    StreamEnd end([&](const absl::Status&) {
      context->alive = false;
      context = nullptr;
    });
    std::atomic<int> dead{0};
    const auto end_it = [&] {
      const StreamEnd::Operation operation = end.Begin();
      if (!operation) return;
      Context* const used = context.get();
      end.Decide(absl::OkStatus());
      if (!used->alive) ++dead;
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) threads.emplace_back(end_it);
    end_it();
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(dead, 0);
    ASSERT_EQ(context, nullptr);
  }
}

}  // namespace
}  // namespace salient
