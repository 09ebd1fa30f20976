// Measures what a job that has ended still takes, counted where memory is handed out.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>

#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/jobs/job.h"
#include "tests/server/jobs/job_fixture.h"

namespace {

std::atomic<int64_t> live_bytes{0};

void* Count(void* p) {
  if (p == nullptr) std::abort();
  live_bytes += static_cast<int64_t>(malloc_usable_size(p));
  return p;
}

void Uncount(void* p) {
  if (p != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

void* operator new(size_t size) { return Count(std::malloc(size)); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return Count(std::malloc(size)); }
void* operator new(size_t size, std::align_val_t align) {
  const auto alignment = static_cast<size_t>(align);
  return Count(std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment));
}
void operator delete(void* p) noexcept { Uncount(p); }
void operator delete(void* p, size_t) noexcept { Uncount(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { Uncount(p); }
void operator delete(void* p, std::align_val_t) noexcept { Uncount(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { Uncount(p); }

namespace salient {
namespace {

using testing::Files;
using testing::JobBench;
using testing::MakeModel;
using testing::Must;
using testing::TinyModel;

constexpr int64_t kConfigBytes = int64_t{512} << 10;

// Its config.json is long, and every plan of a result has one of its own.
Files ModelWithALongConfig() {
  TinyModel shape;
  shape.layers = 1;
  Files model = MakeModel(shape);
  std::string& config = model["config.json"];
  config.insert(1, "\"padding\": \"" + std::string(kConfigBytes, 'x') + "\", ");
  return model;
}

class EndedJobMemoryTest : public testing::JobTest {
 protected:
  EndedJobMemoryTest() : JobTest(ModelWithALongConfig()) {}

  JobSpec Spec() const {
    JobSpec spec = JobBench::Quantize(JobBench::Manifest(model_), tokens_);
    auto& formats = std::get<QuantizeTask>(spec.task).formats;
    formats.clear();
    for (const int bits : {3, 5, 8}) {
      formats.push_back({{bits, 16, false, DType::kF16}, OutputFormat::kDequantizedFp16});
    }
    formats.push_back({{4, 16, false, DType::kF16}, OutputFormat::kAwqGemm});
    return spec;
  }

  // Returns the bytes that are more than `before`, when the table had time to give back what it
  // will.
  static int64_t StillTaken(int64_t before) {
    for (int i = 0; i < 5000 && live_bytes - before > kConfigBytes; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return live_bytes - before;
  }
};

TEST_F(EndedJobMemoryTest, PlansAreGivenBackAndWhatIsAskedForStays) {
  // It runs once for all that is made at the first job.
  const int64_t empty = live_bytes;
  ASSERT_TRUE(bench_.table().Cancel(bench_.Submit(Spec(), "first").name).ok());
  StillTaken(empty);
  const int64_t before = live_bytes;
  const JobSnapshot submitted = bench_.Submit(Spec(), "second");
  EXPECT_GT(live_bytes - before, 4 * kConfigBytes);
  ASSERT_TRUE(bench_.table().Cancel(submitted.name).ok());
  EXPECT_LT(StillTaken(before), kConfigBytes);
  const JobSnapshot ended = Must(bench_.table().Get(submitted.name));
  EXPECT_EQ(ended.state, JobState::kCancelled);
  EXPECT_EQ(ended.serialized_spec, Spec().serialized);
  EXPECT_FALSE(ended.serialized_spec.empty());
  EXPECT_EQ(ended.numerics_id, submitted.numerics_id);
  EXPECT_EQ(ended.estimate.output_bytes, submitted.estimate.output_bytes);
  // A repeated request names the same job, and one with another spec is refused.
  EXPECT_EQ(bench_.Submit(Spec(), "second").state, JobState::kCancelled);
  JobSpec other = Spec();
  other.serialized += "other";
  EXPECT_TRUE(absl::IsAlreadyExists(bench_.table().Submit(other, "second", "", false).status()));
}

TEST_F(EndedJobMemoryTest, AlsoOfAJobThatRan) {
  SendAll();
  ASSERT_EQ(bench_.Finish(bench_.Submit(Spec(), "first").name).state, JobState::kSucceeded);
  const int64_t before = live_bytes;
  const JobSnapshot job = bench_.Finish(bench_.Submit(Spec(), "second").name);
  ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;
  EXPECT_LT(StillTaken(before), kConfigBytes);
  // They are config.json, model.safetensors and tokenizer_config.json.
  EXPECT_EQ(job.files.size(), 4u * 3);
}

}  // namespace
}  // namespace salient
