#include "tests/support/run_tests.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace salient::testing {

int RunTests() {
  std::string directory = ::testing::TempDir() + "salient_tests.XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) {
    std::perror(directory.c_str());
    return 1;
  }
  setenv("TEST_TMPDIR", directory.c_str(), 1);
  int code = RUN_ALL_TESTS();
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  const ::testing::UnitTest& tests = *::testing::UnitTest::GetInstance();
  if (tests.test_to_run_count() == 0 && !::testing::GTEST_FLAG(list_tests)) {
    std::fprintf(stderr, "no test has such a name\n");
    code = 1;
  }
  return code;
}

}  // namespace salient::testing
