// Does what every test program does around GoogleTest.
#ifndef SALIENT_TESTS_SUPPORT_RUN_TESTS_H_
#define SALIENT_TESTS_SUPPORT_RUN_TESTS_H_

namespace salient::testing {

// Runs the tests that the flags choose, with a directory for files that is this process's own and
// goes with it, because others of the same program may run at the same time. Returns the exit
// code: that of GoogleTest, and 1 if the flags choose no test.
int RunTests();

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_RUN_TESTS_H_
