#include "core/checkpoint/module_targets.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace salient {
namespace {

constexpr char kPatternPrefix[] = "re:";
constexpr char kLinearClass[] = "Linear";
constexpr int64_t kMaxSteps = 4096;

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
  const auto matches = [module](const NamePattern& pattern) {
    return pattern.MatchesStart(module);
  };
  if (std::any_of(patterns_.begin(), patterns_.end(), matches)) return Match::kPattern;
  return all_linears_ ? Match::kClass : Match::kNone;
}

}  // namespace salient
