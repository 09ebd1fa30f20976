// Tells which modules a part of a quantization config speaks of.
#ifndef SALIENT_CORE_CONFIG_MODULE_TARGETS_H_
#define SALIENT_CORE_CONFIG_MODULE_TARGETS_H_

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/config/name_pattern.h"

namespace salient {

class ModuleTargets {
 public:
  // Says how a Linear was meant; the larger one wins where several groups mean the same Linear.
  enum class Match { kNone, kClass, kPattern, kName };

  // Adds a target as compressed-tensors writes them: "re:" and a regular expression, the class
  // "Linear" or a full path. Its errors are those of NamePattern::Parse.
  absl::Status Add(absl::string_view target);
  // Its errors are those of NamePattern::Parse; INVALID_ARGUMENT if all patterns are too large
  // together.
  absl::Status AddPattern(absl::string_view pattern);

  Match MatchOf(absl::string_view module) const;

  // Counts the steps of its patterns, which is what matching costs. Those that are one path,
  // spelled out, are looked up instead and cost nothing.
  int64_t steps() const { return steps_; }
  // All patterns of a config together may have this many, because configs are untrusted.
  static constexpr int64_t kMaxSteps = 16384;

 private:
  std::set<std::string, std::less<>> names_;
  std::set<std::string, std::less<>> spelled_out_;  // They are paths that patterns spell out.
  std::vector<NamePattern> patterns_;
  int64_t steps_ = 0;  // It counts those of all patterns.
  bool all_linears_ = false;
};

// Returns what was expected where Add or AddPattern gave this error, for its message.
std::string ExpectedPattern(const absl::Status& status);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODULE_TARGETS_H_
