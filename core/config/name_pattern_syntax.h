// Regular expressions in the syntax of Python's `re`, said in RE2's.
#ifndef SALIENT_CORE_CONFIG_NAME_PATTERN_SYNTAX_H_
#define SALIENT_CORE_CONFIG_NAME_PATTERN_SYNTAX_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient {

// Returns what RE2 is to be given to match the text of ASCII that Python 3.11's `re` matches with
// `pattern`, without its captures. INVALID_ARGUMENT says what `re` does not take, at which byte;
// UNIMPLEMENTED names what RE2 cannot do: look-around, references, groups that keep what they took.
absl::StatusOr<std::string> TranslatePythonPattern(absl::string_view pattern);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_NAME_PATTERN_SYNTAX_H_
