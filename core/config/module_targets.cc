#include "core/config/module_targets.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace salient {
namespace {

constexpr char kPatternPrefix[] = "re:";
constexpr char kLinearClass[] = "Linear";

// Returns the path that a pattern matches alone: "^model\\.layers\\.3\\.mlp$".
std::optional<std::string> SpelledOut(absl::string_view pattern) {
  absl::ConsumePrefix(&pattern, "^");
  if (!absl::ConsumeSuffix(&pattern, "$")) return std::nullopt;
  std::string path;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const bool escaped = pattern[i] == '\\' && i + 1 < pattern.size();
    const char c = escaped ? pattern[++i] : pattern[i];
    const bool plain = absl::ascii_isalnum(c) || c == '_';
    if (escaped ? !absl::ascii_ispunct(c) : !plain && c != '-') return std::nullopt;
    path.push_back(c);
  }
  return path;
}

}  // namespace

absl::Status ModuleTargets::Add(absl::string_view target) {
  if (absl::StartsWith(target, kPatternPrefix)) {
    return AddPattern(target.substr(sizeof(kPatternPrefix) - 1));
  }
  if (target == kLinearClass) {
    all_linears_ = true;
  } else {
    names_.emplace(target);
  }
  return absl::OkStatus();
}

absl::Status ModuleTargets::AddPattern(absl::string_view pattern) {
  if (std::optional<std::string> path = SpelledOut(pattern); path.has_value()) {
    spelled_out_.insert(*std::move(path));
    return absl::OkStatus();
  }
  absl::StatusOr<NamePattern> compiled = NamePattern::Parse(pattern);
  if (!compiled.ok()) return compiled.status();
  steps_ += compiled->steps();
  if (steps_ > kMaxSteps) {
    return absl::InvalidArgumentError(
        absl::StrCat("with the patterns before it, more than ", kMaxSteps, " steps"));
  }
  patterns_.push_back(*std::move(compiled));
  return absl::OkStatus();
}

ModuleTargets::Match ModuleTargets::MatchOf(absl::string_view module) const {
  if (names_.contains(module)) return Match::kName;
  if (spelled_out_.contains(module)) return Match::kPattern;
  const auto matches = [module](const NamePattern& pattern) {
    return pattern.MatchesStart(module);
  };
  if (std::any_of(patterns_.begin(), patterns_.end(), matches)) return Match::kPattern;
  return all_linears_ ? Match::kClass : Match::kNone;
}

std::string ExpectedPattern(const absl::Status& status) {
  // The one names a part of the language, the other what is wrong.
  return absl::StrCat("a regular expression",
                      absl::IsUnimplemented(status) ? " without " : ", found ", status.message());
}

}  // namespace salient
