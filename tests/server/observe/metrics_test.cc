#include "server/observe/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "server/calls/call_registry.h"
#include "server/error/call_error.h"
#include "server/listen/listening_sockets.h"
#include "server/observe/metrics_endpoint.h"
#include "tests/server/observe/fake_job_table.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

// The value of the line that begins with `series` and a space; fails if there is none.
double Value(const std::string& text, const std::string& series) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, absl::StrCat(series, " "))) {
      return std::stod(std::string(line.substr(series.size() + 1)));
    }
  }
  ADD_FAILURE() << "no series " << series;
  return -1;
}

std::set<std::string> Series(const std::string& text) {
  std::set<std::string> all;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    all.insert(std::string(line.substr(0, line.rfind(' '))));
  }
  return all;
}

class MetricsTest : public ::testing::Test {
 protected:
  MetricsTest() : registry_(TwoWorkers()), metrics_("1.2.3") { metrics_.Watch(registry_); }

  static CallRegistry::Settings TwoWorkers() {
    CallRegistry::Settings settings;
    settings.workers = 2;
    return settings;
  }

  CallRegistry registry_;
  Metrics metrics_;
  Metrics::Rpc& rpc_ = metrics_.AddRpc({"salient.v1.S", "M", RpcType::kBidiStream});
};

constexpr char kLabels[] =
    "grpc_method=\"M\",grpc_service=\"salient.v1.S\",grpc_type=\"bidi_stream\"";

TEST_F(MetricsTest, SaysWhatTheServerKnowsOfItselfWhileItIsAsked) {
  BoundedLane lane("lane", {.tasks = 1});
  metrics_.Watch("control", lane);
  EXPECT_EQ(Value(metrics_.Text(), "salient_queued_tasks{lane=\"control\"}"), 0);
  metrics_.Watch([] { return HouseStats{1, 2, 3, 4, 5, false}; });
  const std::string text = metrics_.Text();
  EXPECT_EQ(Value(text, "salient_connections"), 1);
  EXPECT_EQ(Value(text, "salient_connections_limit"), 2);
  EXPECT_EQ(Value(text, "salient_connections_refused_total{reason=\"limit\"}"), 3);
  EXPECT_EQ(Value(text, "salient_connections_refused_total{reason=\"descriptors\"}"), 4);
  EXPECT_EQ(Value(text, "salient_self_checks_failed_total"), 5);
  EXPECT_EQ(Value(text, "salient_store_writable"), 0);
  metrics_.Watch(nullptr);
  EXPECT_EQ(metrics_.Text().find("salient_connections"), std::string::npos);
}

TEST_F(MetricsTest, EverySeriesIsThereBeforeTheFirstEventAndNoEventAddsOne) {
  const std::set<std::string> before = Series(metrics_.Text());
  for (const Reason reason : AllReasons()) {
    const std::string series = absl::StrCat("salient_errors_total{reason=\"", Name(reason), "\"}");
    EXPECT_EQ(Value(metrics_.Text(), series), 0);
  }
  rpc_.Started();
  rpc_.Received(10);
  rpc_.Sent(20);
  for (int code = 0; code <= 16; ++code) {
    rpc_.Handled(absl::Status(static_cast<absl::StatusCode>(code), "m"), absl::Seconds(1));
  }
  for (const Reason reason : AllReasons()) rpc_.Handled(InvalidCall(reason, "m"), absl::Seconds(1));
  metrics_.GroupDone({100, absl::Seconds(1), 2, 1, 0.1, 1e-7});
  EXPECT_EQ(Series(metrics_.Text()), before);
}

TEST_F(MetricsTest, EventsAreCountedWhereTheyBelong) {
  rpc_.Started();
  rpc_.Started();
  rpc_.Received(10);
  rpc_.Received(5);
  rpc_.Sent(7);
  rpc_.Handled(absl::OkStatus(), absl::Milliseconds(300));
  rpc_.Handled(CallError(absl::StatusCode::kAborted, Reason::kClientIdle, "m"), absl::Seconds(700));
  metrics_.GroupDone(
      {1'000'000, absl::Seconds(2), /*loss_rtn=*/4, /*loss=*/1, 0.015, /*fold_error=*/2e-7});
  metrics_.GroupDone({0, absl::ZeroDuration(), /*loss_rtn=*/0, /*loss=*/0, 0, std::nullopt});
  const std::string text = metrics_.Text();
  const auto with = [](const std::string& name) { return absl::StrCat(name, "{", kLabels, "}"); };
  EXPECT_EQ(Value(text, with("grpc_server_started_total")), 2);
  EXPECT_EQ(Value(text, with("grpc_server_msg_received_total")), 2);
  EXPECT_EQ(Value(text, with("grpc_server_msg_sent_total")), 1);
  EXPECT_EQ(Value(text, with("grpc_server_handling_seconds_count")), 2);
  EXPECT_EQ(Value(text, absl::StrCat("grpc_server_handled_total{grpc_code=\"OK\",", kLabels, "}")),
            1);
  EXPECT_EQ(
      Value(text, absl::StrCat("grpc_server_handled_total{grpc_code=\"Aborted\",", kLabels, "}")),
      1);
  EXPECT_EQ(Value(text, "salient_bytes_total{direction=\"in\"}"), 15);
  EXPECT_EQ(Value(text, "salient_bytes_total{direction=\"out\"}"), 7);
  EXPECT_EQ(Value(text, "salient_errors_total{reason=\"CLIENT_IDLE\"}"), 1);
  EXPECT_EQ(Value(text, "salient_loss_ratio_count"), 2);
  EXPECT_EQ(Value(text, "salient_loss_ratio_sum"), 0.25 + 1);
  EXPECT_EQ(Value(text, "salient_loss_ratio_bucket{le=\"0.3\"}"), 1);
  EXPECT_EQ(Value(text, "salient_relative_output_error_ratio_bucket{le=\"0.02\"}"), 2);
  EXPECT_EQ(Value(text, "salient_group_parameters_per_second_sum"), 500'000);
  EXPECT_EQ(Value(text, "salient_fold_error_ratio_count"), 1) << "The other folded nothing.";
  EXPECT_EQ(Value(text, "salient_fold_error_ratio_sum"), 2e-7);
  EXPECT_EQ(Value(text, "salient_fold_error_ratio_bucket{le=\"1e-07\"}"), 0);
  EXPECT_EQ(Value(text, "salient_fold_error_ratio_bucket{le=\"3e-07\"}"), 1);
  EXPECT_EQ(Value(text, "salient_fold_error_ratio_bucket{le=\"0.001\"}"), 1);
}

TEST_F(MetricsTest, TheEngineAndTheProcessAreRead) {
  const std::string text = metrics_.Text();
  EXPECT_EQ(Value(text, "salient_workers"), 2);
  EXPECT_EQ(Value(text, "salient_active_calls"), 0);
  EXPECT_GE(Value(text, "salient_worker_busy_seconds_total{worker=\"1\"}"), 0);
  for (const char* stage : {"other", "read", "forward", "statistics", "scale_search", "range",
                            "rounding", "loss", "pack", "write"}) {
    const std::string label = absl::StrCat("{stage=\"", stage, "\"}");
    EXPECT_GE(Value(text, absl::StrCat("salient_stage_busy_seconds_total", label)), 0);
    EXPECT_EQ(Value(text, absl::StrCat("salient_stage_wall_seconds_total", label)), 0);
  }
  EXPECT_EQ(Value(text, "salient_memory_limit_bytes"),
            static_cast<double>(registry_.settings().memory_bytes));
  EXPECT_GT(Value(text, "process_resident_memory_bytes"), 1e6);
  EXPECT_GT(Value(text, "process_open_fds"), 2);
  EXPECT_GT(Value(text, "process_start_time_seconds"), 1.6e9);
  EXPECT_THAT(text, HasSubstr("version=\"1.2.3\""));
}

TEST_F(MetricsTest, AnAddressThatCannotBeListenedOnIsAnError) {
  EXPECT_FALSE(metrics_.Listen("203.0.113.1:1").ok());
  const auto port = metrics_.Listen("127.0.0.1:0");
  ASSERT_TRUE(port.ok()) << port.status();
  EXPECT_GT(*port, 0);
}

// Alone, the library takes 2 s to end, and gives a request 30 s to come.
TEST(MetricsEndpointTest, EndsAtOnceAndGivesUpHalfARequest) {
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 10; ++i) {
    const auto endpoint = MetricsEndpoint::Listen("127.0.0.1:0", {});
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  }
  EXPECT_LT(absl::Now() - begin, absl::Seconds(15));
  const auto endpoint = MetricsEndpoint::Listen("127.0.0.1:0", {});
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const auto half = BeginConnect(absl::StrCat("127.0.0.1:", (*endpoint)->port()));
  ASSERT_TRUE(half.ok()) << half.status();
  pollfd ready = {half->number(), POLLOUT, 0};
  ASSERT_EQ(poll(&ready, 1, 10'000), 1);
  ASSERT_EQ(send(half->number(), "GET /metr", 9, MSG_NOSIGNAL), 9);
  ready.events = POLLIN;
  EXPECT_EQ(poll(&ready, 1, 20'000), 1) << "it is not closed";
}

TEST_F(MetricsTest, JobsAreReadWhenScraped) {
  FakeJobTable jobs;
  metrics_.Watch(jobs);
  EXPECT_EQ(Value(metrics_.Text(), "salient_jobs{state=\"queued\"}"), 0);
  jobs.stats = {3, 1, 10, 4, 2, 1000, 2000, 0.25};
  const std::string text = metrics_.Text();
  EXPECT_EQ(Value(text, "salient_jobs{state=\"queued\"}"), 3);
  EXPECT_EQ(Value(text, "salient_jobs{state=\"running\"}"), 1);
  EXPECT_EQ(Value(text, "salient_jobs_ended_total{outcome=\"succeeded\"}"), 10);
  EXPECT_EQ(Value(text, "salient_jobs_ended_total{outcome=\"failed\"}"), 4);
  EXPECT_EQ(Value(text, "salient_jobs_ended_total{outcome=\"cancelled\"}"), 2);
  EXPECT_EQ(Value(text, "salient_job_tokens_total"), 1000);
  EXPECT_EQ(Value(text, "salient_job_parameters_total"), 2000);
  EXPECT_EQ(Value(text, "salient_job_progress_ratio"), 0.25);
}

TEST_F(MetricsTest, BlobBytesHaveADirection) {
  metrics_.BlobBytesWritten(5);
  metrics_.BlobBytesRead(7);
  const std::string text = metrics_.Text();
  EXPECT_EQ(Value(text, "salient_blob_bytes_total{direction=\"in\"}"), 5);
  EXPECT_EQ(Value(text, "salient_blob_bytes_total{direction=\"out\"}"), 7);
}

}  // namespace
}  // namespace salient
