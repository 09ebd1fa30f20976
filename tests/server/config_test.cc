#include "server/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace salient {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::variant<ServerConfig, PrintAndExit>> Parse(std::vector<const char*> flags) {
  flags.insert(flags.begin(), "salientd");
  return ParseFlags(static_cast<int>(flags.size()), flags.data());
}

TEST(ConfigTest, WithoutFlagsThereAreTheDefaults) {
  const auto parsed = Parse({});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto& config = std::get<ServerConfig>(*parsed);
  EXPECT_EQ(config.listen, "127.0.0.1:8443");
  EXPECT_EQ(config.metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(config.idle_timeout, absl::Seconds(600));
  EXPECT_EQ(config.not_reading_timeout, absl::Seconds(30));
  EXPECT_TRUE(config.health);
  EXPECT_TRUE(config.reflection);
  const ServerConfig full = WithDefaults(config);
  EXPECT_GE(full.workers, 1);
  EXPECT_GT(full.memory_bytes, 0);
  EXPECT_GT(full.call_memory_bytes, 0);
  EXPECT_LE(full.call_memory_bytes, full.memory_bytes);
  EXPECT_TRUE(CheckConfig(full).ok()) << CheckConfig(full);
}

TEST(ConfigTest, BytesAndTimesMayHaveUnits) {
  const auto parsed =
      Parse({"--memory-bytes", "8G", "--call-memory-bytes", "512MiB", "--store-bytes", "1 tib",
             "--idle-seconds", "5m", "--drain-seconds", "250ms", "--job-ttl-seconds", "1.5d"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto& config = std::get<ServerConfig>(*parsed);
  EXPECT_EQ(config.memory_bytes, int64_t{8} << 30);
  EXPECT_EQ(config.call_memory_bytes, int64_t{512} << 20);
  EXPECT_EQ(config.store_bytes, int64_t{1} << 40);
  EXPECT_EQ(config.idle_timeout, absl::Minutes(5));
  EXPECT_EQ(config.drain, absl::Milliseconds(250));
  EXPECT_EQ(config.job_ttl, absl::Hours(36));
  EXPECT_EQ(Parse({"--memory-bytes", "8 parsecs"}).status().message(),
            "--memory-bytes: \"8 parsecs\"; expected bytes, or a number with KiB, MiB, GiB or TiB "
            "behind it, e.g. 64GiB");
  EXPECT_EQ(Parse({"--idle-seconds", "m"}).status().message(),
            "--idle-seconds: \"m\"; expected seconds, or a number with ms, s, m, h or d behind it, "
            "e.g. 5m");
}

TEST(ConfigTest, UnknownArgumentsAreToldAsTheyWereTyped) {
  EXPECT_EQ(Parse({"--memory", "8G", "twice"}).status().message(),
            "unknown arguments: --memory 8G twice");
}

TEST(ConfigTest, EveryFlagReachesItsField) {
  const auto parsed = Parse({"--listen",
                             "0.0.0.0:1",
                             "--metrics-listen",
                             "",
                             "--workers",
                             "3",
                             "--instruction-set",
                             "avx2",
                             "--memory-bytes",
                             "200000000",
                             "--call-memory-bytes",
                             "100000000",
                             "--max-active-calls",
                             "4",
                             "--max-connections",
                             "9",
                             "--idle-seconds",
                             "5",
                             "--not-reading-seconds",
                             "6.5",
                             "--memory-wait-seconds",
                             "7",
                             "--drain-seconds",
                             "8",
                             "--store-directory",
                             "/nowhere/yet",
                             "--store-bytes",
                             "3000000",
                             "--model-root",
                             "/",
                             "--output-root",
                             "/tmp",
                             "--max-running-jobs",
                             "2",
                             "--job-ttl-seconds",
                             "100000",
                             "--no-health",
                             "--no-reflection",
                             "--log-level",
                             "error"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto& config = std::get<ServerConfig>(*parsed);
  EXPECT_EQ(config.listen, "0.0.0.0:1");
  EXPECT_EQ(config.metrics_listen, "");
  EXPECT_EQ(config.workers, 3);
  EXPECT_EQ(config.instruction_set, "avx2");
  EXPECT_EQ(config.memory_bytes, 200'000'000);
  EXPECT_EQ(config.call_memory_bytes, 100'000'000);
  EXPECT_EQ(config.max_active_calls, 4);
  EXPECT_EQ(config.max_connections, 9);
  EXPECT_EQ(config.idle_timeout, absl::Seconds(5));
  EXPECT_EQ(config.not_reading_timeout, absl::Seconds(6.5));
  EXPECT_EQ(config.memory_wait, absl::Seconds(7));
  EXPECT_EQ(config.drain, absl::Seconds(8));
  EXPECT_EQ(config.store_directory, "/nowhere/yet");
  EXPECT_EQ(config.store_bytes, 3'000'000);
  EXPECT_EQ(config.model_root, "/");
  EXPECT_EQ(config.output_root, "/tmp");
  EXPECT_EQ(config.max_running_jobs, 2);
  EXPECT_EQ(config.job_ttl, absl::Seconds(100000));
  EXPECT_FALSE(config.health);
  EXPECT_FALSE(config.reflection);
  EXPECT_EQ(config.log_level, "error");
}

struct BadFlag {
  const char* flag;
  const char* value;
};

class BadFlagTest : public ::testing::TestWithParam<BadFlag> {};
INSTANTIATE_TEST_SUITE_P(
    Flags, BadFlagTest,
    ::testing::Values(BadFlag{"--listen", ""}, BadFlag{"--listen", "localhost"},
                      BadFlag{"--listen", ":1"}, BadFlag{"--listen", "h:65536"},
                      BadFlag{"--listen", "h:-1"}, BadFlag{"--metrics-listen", "9464"},
                      BadFlag{"--workers", "-1"}, BadFlag{"--workers", "many"},
                      BadFlag{"--workers", "99999999999999"}, BadFlag{"--max-active-calls", "0"},
                      BadFlag{"--max-connections", "-1"}, BadFlag{"--max-connections", "1000001"},
                      BadFlag{"--instruction-set", "AVX2"}, BadFlag{"--memory-bytes", "1000"},
                      BadFlag{"--memory-bytes", "-5"}, BadFlag{"--call-memory-bytes", "17"},
                      BadFlag{"--idle-seconds", "0"}, BadFlag{"--idle-seconds", "-1"},
                      BadFlag{"--not-reading-seconds", "nan"},
                      BadFlag{"--memory-wait-seconds", "inf"}, BadFlag{"--drain-seconds", "1e9"},
                      BadFlag{"--store-bytes", "1000"}, BadFlag{"--store-bytes", "-1"},
                      BadFlag{"--model-root", "/no/such/directory"},
                      BadFlag{"--output-root", "/dev/null"}, BadFlag{"--max-running-jobs", "0"},
                      BadFlag{"--job-ttl-seconds", "0"}, BadFlag{"--job-ttl-seconds", "1e9"},
                      BadFlag{"--log-level", "loud"}));

TEST_P(BadFlagTest, IsRefusedByName) {
  const auto parsed = Parse({GetParam().flag, GetParam().value});
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(GetParam().flag));
}

TEST(ConfigTest, AnUnknownFlagIsRefused) {
  EXPECT_THAT(std::string(Parse({"--lisen", "x:1"}).status().message()), HasSubstr("--lisen"));
}

TEST(ConfigTest, OneCallMayNotHaveMoreThanAll) {
  const auto parsed = Parse({"--memory-bytes", "100000000", "--call-memory-bytes", "100000001"});
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("--call-memory-bytes"));
}

TEST(ConfigTest, HelpAndVersionArePrinted) {
  const auto help = Parse({"--help"});
  ASSERT_TRUE(help.ok());
  EXPECT_THAT(std::get<PrintAndExit>(*help).text, HasSubstr("--call-memory-bytes"));
  const auto version = Parse({"--version"});
  ASSERT_TRUE(version.ok());
  EXPECT_THAT(std::get<PrintAndExit>(*version).text, testing::StartsWith("salientd "));
}

}  // namespace
}  // namespace salient
