// Runs GoogleTest on the instruction set that SALIENT_TEST_INSTRUCTION_SET names; without it on all
// that the CPU has. Says NOT RUN and exits with 77 where it has not that set.
#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>

#include "core/kernels/instruction_set.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"
#include "core/linalg/instruction_limit.h"
#include "tests/support/run_tests.h"

namespace {

constexpr int kSkipped = 77;  // It is SKIP_RETURN_CODE of the ctests.

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  const char* name = std::getenv("SALIENT_TEST_INSTRUCTION_SET");
  const auto set = salient::ParseInstructionSet(name == nullptr ? "native" : name);
  if (!set.ok()) {
    std::fprintf(stderr, "%s\n", set.status().ToString().c_str());
    return 1;
  }
  if (const absl::Status limited = salient::LimitInstructionSet(*set); !limited.ok()) {
    std::printf("NOT RUN: %s\n", std::string(limited.message()).c_str());
    return kSkipped;
  }
  // The list of tests must be nothing but the list.
  if (::testing::GTEST_FLAG(list_tests)) return salient::testing::RunTests();
  std::printf("instruction set: products %s, kernels %s\n", salient::InstructionPath().c_str(),
              salient::KernelTarget().c_str());
  return salient::testing::RunTests();
}
