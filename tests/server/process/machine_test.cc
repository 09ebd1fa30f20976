#include "server/process/machine.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

namespace salient {
namespace {

// Has a file system with nothing but what a test puts there.
class MachineTest : public ::testing::Test {
 protected:
  MachineTest() {
    std::string pattern = ::testing::TempDir() + "machine_XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~MachineTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  std::string root_;
};

TEST_F(MachineTest, WithoutACgroupItIsTheMachine) {
  EXPECT_EQ(AvailableProcessors(root_), AvailableProcessors("/nowhere"));
  EXPECT_GE(AvailableProcessors(root_), 1);
  EXPECT_GT(AvailableMemoryBytes(root_), int64_t{1} << 20);
}

TEST_F(MachineTest, Version2LimitsHoldInsideAContainer) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  Write("/sys/fs/cgroup/memory.max", "33554432\n");
  EXPECT_EQ(AvailableProcessors(root_), 1);
  EXPECT_EQ(AvailableMemoryBytes(root_), 33554432);
}

TEST_F(MachineTest, TheLimitOfAnAncestorHolds) {
  Write("/proc/self/cgroup", "0::/kubepods/pod1/container\n");
  Write("/sys/fs/cgroup/kubepods/pod1/container/memory.max", "max\n");
  Write("/sys/fs/cgroup/kubepods/pod1/memory.max", "67108864\n");
  Write("/sys/fs/cgroup/kubepods/memory.max", "99999999999\n");
  Write("/sys/fs/cgroup/kubepods/pod1/container/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/kubepods/pod1/cpu.max", "100000 100000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 67108864);
  EXPECT_EQ(AvailableProcessors(root_), 1);
}

TEST_F(MachineTest, Version1LimitsHoldUnderTheirControllers) {
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/b\n0::/elsewhere\n");
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "100000\n");
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/memory/b/memory.limit_in_bytes", "67108864\n");
  EXPECT_EQ(AvailableProcessors(root_), 1);
  EXPECT_EQ(AvailableMemoryBytes(root_), 67108864);
}

// Two workers that are held back a quarter of the time do half as much again as one.
TEST_F(MachineTest, APartOfAProcessorCountsAsOneMore) {
  const int machine = AvailableProcessors(root_);
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/cpu.max", "150000 100000\n");
  EXPECT_EQ(AvailableProcessors(root_), std::min(machine, 2));
  Write("/sys/fs/cgroup/cpu.max", "10000 100000\n");
  EXPECT_EQ(AvailableProcessors(root_), 1);
  Write("/proc/self/cgroup", "4:cpu,cpuacct:/\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "110000\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(AvailableProcessors(root_), std::min(machine, 2));
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "20000\n");
  EXPECT_EQ(AvailableProcessors(root_), 1);
}

TEST_F(MachineTest, NoLimitAndNonsenseAreNoLimit) {
  Write("/proc/self/cgroup", "4:memory:/\n3:cpu:/\ngarbage\n\n0::/\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/cpu.max", "nonsense");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(AvailableProcessors(root_), AvailableProcessors("/nowhere"));
  EXPECT_EQ(AvailableMemoryBytes(root_), AvailableMemoryBytes("/nowhere"));
}

TEST(DescriptorsTest, TheSoftLimitIsRaisedToTheHardOne) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 100;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const DescriptorLimit raised = RaiseDescriptorLimit();
  EXPECT_EQ(raised.before, 100);
  EXPECT_EQ(static_cast<rlim_t>(raised.now), before.rlim_max);
  EXPECT_EQ(AvailableDescriptors(), raised.now);
  setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace salient
