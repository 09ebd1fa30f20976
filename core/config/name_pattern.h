// Regular expressions on the names of modules, as quantization configs have them. They come from
// untrusted files: matching takes time proportional to pattern times name, whatever they are.
#ifndef SALIENT_CORE_CONFIG_NAME_PATTERN_H_
#define SALIENT_CORE_CONFIG_NAME_PATTERN_H_

#include <bitset>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient {

// Matches what Python's `re` makes of these parts of its language, for names of ASCII: characters,
// `.`, sets [a-z] and [^a-z], \d \w \s and their opposites, escaped punctuation, groups ( ) and (?:
// ), |, ^, $, and * + ? {m} {m,} {m,n}, lazy or not. It is immutable and thread-safe.
class NamePattern {
 public:
  // Compiles `pattern`. Returns INVALID_ARGUMENT saying what is wrong at which byte, also for a
  // pattern that is too large, and UNIMPLEMENTED for other parts of the language, such as
  // look-around.
  static absl::StatusOr<NamePattern> Parse(absl::string_view pattern);

  // Returns whether it matches a beginning of `name`, as re.match.
  bool MatchesStart(absl::string_view name) const;

  // Returns what it takes of memory, and of time for each character of a name.
  int64_t steps() const { return static_cast<int64_t>(program_.size()); }

 private:
  friend class NamePatternParser;  // It is in name_pattern_parser.cc.

  // A step of the program; `to` and `other` are counted from it.
  struct Step {
    enum class Kind { kCharacter, kFork, kJump, kBegin, kEnd };
    Kind kind = Kind::kJump;
    int32_t to = 1;
    int32_t other = 1;  // kFork has it.
    // kCharacter takes any of these and goes on with the next step.
    std::bitset<256> characters;
  };

  std::vector<Step> program_;  // Past the last step it has matched.
};

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_NAME_PATTERN_H_
