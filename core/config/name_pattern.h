// Regular expressions on the names of modules, as quantization configs have them. They come from
// untrusted files: matching takes time proportional to pattern times name, whatever they are.
#ifndef SALIENT_CORE_CONFIG_NAME_PATTERN_H_
#define SALIENT_CORE_CONFIG_NAME_PATTERN_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace re2 {
class RE2;
}

namespace salient {

// A pattern of Python's `re`, which engines hand it to, run by RE2. For names of ASCII, as those of
// all modules are, it matches what `re` matches; in other names \d, \w, \s and \b know only ASCII.
// Immutable; thread-safe.
class NamePattern {
 public:
  // Returns `pattern`, compiled. INVALID_ARGUMENT says what is wrong at which byte, also of a
  // pattern that is too large; UNIMPLEMENTED names a part of the language that RE2 has not, such as
  // look-ahead.
  static absl::StatusOr<NamePattern> Parse(absl::string_view pattern);

  // Says whether it matches a beginning of `name`, as re.match.
  bool MatchesStart(absl::string_view name) const;

  // Returns what it takes of memory, and at most of time for each character of a name.
  int64_t steps() const;

 private:
  explicit NamePattern(std::shared_ptr<const re2::RE2> program) : program_(std::move(program)) {}

  std::shared_ptr<const re2::RE2> program_;
};

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_NAME_PATTERN_H_
