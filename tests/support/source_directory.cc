#include "tests/support/source_directory.h"

namespace salient::testing {

std::string SourceDirectory() { return SALIENT_SOURCE_DIR; }

}  // namespace salient::testing
