// Makes jobs by the formats of their results.
#ifndef SALIENT_TESTS_SERVER_JOBS_OUTPUT_FIXTURE_H_
#define SALIENT_TESTS_SERVER_JOBS_OUTPUT_FIXTURE_H_

#include <filesystem>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/jobs/job.h"
#include "tests/server/jobs/job_fixture.h"

namespace salient::testing {

inline constexpr OutputFormat kAwq = OutputFormat::kAwqGemm;
inline constexpr OutputFormat kPlain = OutputFormat::kDequantizedFp16;

inline StoredFormat Stored(OutputFormat output, int bits = 4, int64_t group_size = 16) {
  return {{bits, group_size, false, DType::kF16}, output};
}

class OutputTest : public JobTest {
 protected:
  OutputTest() { SendAll(); }

  // `limit` is that of the relative error; 0 sets none.
  JobSpec Spec(const std::vector<StoredFormat>& formats, const std::string& output_path = "",
               double limit = 0) const {
    JobSpec spec = JobBench::Quantize(JobBench::Manifest(model_), tokens_);
    auto& task = std::get<QuantizeTask>(spec.task);
    task.formats = formats;
    task.output_path = output_path;
    task.max_relative_error = limit;
    return spec;
  }

  std::vector<TimedGroupReport> Reports(const JobSnapshot& job) {
    std::vector<TimedGroupReport> reports;
    for (const JobEvent& event : bench_.WatchToEnd(job.name)) {
      const auto* report = std::get_if<TimedGroupReport>(&event.what);
      if (report != nullptr) reports.push_back(*report);
    }
    return reports;
  }

  std::filesystem::path Outputs() { return bench_.directory() / "outputs"; }
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SERVER_JOBS_OUTPUT_FIXTURE_H_
