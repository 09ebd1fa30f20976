// Says where the repository is that the tests were compiled from.
#ifndef SALIENT_TESTS_SUPPORT_SOURCE_DIRECTORY_H_
#define SALIENT_TESTS_SUPPORT_SOURCE_DIRECTORY_H_

#include <string>

namespace salient::testing {

// Returns its full path, without a slash at the end.
std::string SourceDirectory();

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_SOURCE_DIRECTORY_H_
