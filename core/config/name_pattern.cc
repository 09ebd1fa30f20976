#include "core/config/name_pattern.h"

#include <re2/re2.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/config/name_pattern_syntax.h"

namespace salient {
namespace {

// A pattern has at most so many: reading one takes memory, too.
constexpr size_t kMaxBytes = 16 << 10;
// Of a pattern's program and of the states that RE2 finds while it matches. What the names of a
// model tell apart takes a hundredth of it.
constexpr int64_t kMaxMemory = 512 << 10;

constexpr size_t kShownBytes = 128;  // So many of RE2's words are shown.

re2::StringPiece Piece(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace

absl::StatusOr<NamePattern> NamePattern::Parse(absl::string_view pattern) {
  if (pattern.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("one of ", pattern.size(), " bytes, more than ", kMaxBytes));
  }
  const absl::StatusOr<std::string> translated = TranslatePythonPattern(pattern);
  if (!translated.ok()) return translated.status();
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMaxMemory);
  auto program = std::make_shared<const re2::RE2>(Piece(*translated), options);
  if (program->ok()) return NamePattern(std::move(program));
  if (program->error_code() == re2::RE2::ErrorPatternTooLarge) {
    return absl::InvalidArgumentError(
        absl::StrCat("one that needs more than ", kMaxMemory >> 10, " KiB"));
  }
  // It ends with a part of the pattern.
  return absl::InvalidArgumentError(absl::CHexEscape(program->error().substr(0, kShownBytes)));
}

bool NamePattern::MatchesStart(absl::string_view name) const {
  return program_->Match(Piece(name), 0, name.size(), re2::RE2::ANCHOR_START, nullptr, 0);
}

int64_t NamePattern::steps() const { return program_->ProgramSize(); }

}  // namespace salient
