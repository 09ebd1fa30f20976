// Finds files that tests may use when they are there: models and goldens too large, or of too many
// licences, for a clone. SALIENT_SHARED names their directory; else it is looked for beside the
// repository.
#ifndef SALIENT_TESTS_SUPPORT_SHARED_FILES_H_
#define SALIENT_TESTS_SUPPORT_SHARED_FILES_H_

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/source_directory.h"

namespace salient::testing {

// Returns the full path of `relative`, or "" if it is not there.
inline std::string SharedFile(const std::string& relative) {
  const char* named = std::getenv("SALIENT_SHARED");
  const std::filesystem::path root =
      named != nullptr ? std::filesystem::path(named)
                       : std::filesystem::path(SourceDirectory()).parent_path() / "shared";
  const std::filesystem::path path = root / relative;
  return std::filesystem::exists(path) ? path.string() : std::string();
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_SHARED_FILES_H_
