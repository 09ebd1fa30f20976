#include "core/config/name_pattern_syntax.h"

#include <algorithm>
#include <cstddef>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace salient {
namespace {

constexpr int kMaxCount = 1000;  // RE2 bounds {m,n} so.

// RE2's \s leaves out what Python's has besides: the vertical tab and four separators.
constexpr char kSpaces[] = R"(\t-\r\x1c-\x20)";
constexpr char kOthers[] = R"(\x00-\x08\x0e-\x1b\x21-\x{10ffff})";

struct Extension {
  absl::string_view begins;
  absl::string_view name;
};
constexpr Extension kUnsupported[] = {
    {"(?=", "look-ahead"},   {"(?!", "look-ahead"},      {"(?<=", "look-behind"},
    {"(?<!", "look-behind"}, {"(?>", "an atomic group"}, {"(?P=", "a reference to a group"},
    {"(?(", "a condition"},  {"(?#", "a comment"},
};

// Copies a pattern part by part. RE2 is the judge of its grammar; what is looked for here is what
// the two languages say differently, or what only one of them has.
class Translation {
 public:
  explicit Translation(absl::string_view text) : text_(text) {}

  absl::StatusOr<std::string> Run() {
    while (status_.ok() && at_ < text_.size()) TakeNext();
    const auto* const other = std::find_if_not(
        text_.begin(), text_.end(), [](unsigned char c) { return absl::ascii_isascii(c); });
    if (ignores_case_ && other != text_.end()) {
      // The two fold the cases of some of them differently.
      at_ = static_cast<size_t>(other - text_.begin());
      Unsupported("a character beyond ASCII where case is ignored");
    }
    if (!status_.ok()) return status_;
    return re2_;
  }

 private:
  void Invalid(absl::string_view what) {
    status_.Update(absl::InvalidArgumentError(absl::StrCat(what, " at byte ", at_)));
  }
  void Unsupported(absl::string_view what) {
    status_.Update(absl::UnimplementedError(absl::StrCat(what, " at byte ", at_)));
  }

  bool NextIs(absl::string_view part) const { return absl::StartsWith(text_.substr(at_), part); }
  void Replace(size_t size, absl::string_view part) {
    absl::StrAppend(&re2_, part);
    at_ += size;
  }
  void Copy(size_t size) { Replace(size, text_.substr(at_, size)); }

  void TakeNext() {
    const bool behind_anchor = behind_anchor_;
    behind_anchor_ = false;
    const char c = text_[at_];
    if (c == '[') return TakeSet();
    if (c == '\\') return TakeEscape(/*in_set=*/false);
    if (NextIs("(?")) return TakeExtension();
    if (c == '{' || c == '*' || c == '+' || c == '?') return TakeRepetition(behind_anchor);
    behind_anchor_ = c == '^' || c == '$';
    // Python's matches before a newline that ends the text, too.
    if (c == '$') return Replace(1, R"((?:\n?\z))");
    Copy(1);
  }

  void TakeEscape(bool in_set) {
    const absl::string_view escape = text_.substr(at_, 2);
    const auto c = static_cast<unsigned char>(escape.back());
    if (escape.size() == 1) return Invalid("\"\\\" and nothing");
    if (absl::StrContains("dDwW", escape[1])) return Copy(2);
    if (c == 's' && in_set) return Replace(2, kSpaces);
    if (c == 'S' && in_set) return Replace(2, kOthers);
    if (c == 's' || c == 'S') {
      return Replace(2, absl::StrCat("[", c == 's' ? kSpaces : kOthers, "]"));
    }
    behind_anchor_ = !in_set && absl::StrContains("AbBZ", escape[1]);
    if (behind_anchor_) return c == 'Z' ? Replace(2, "\\z") : Copy(2);
    if (absl::ascii_isalnum(c)) return Unsupported(absl::StrCat("the escape ", escape));
    if (c == '_' || !absl::ascii_isascii(c)) return Replace(1, "");
    Copy(2);
  }

  void TakeSet() {
    Copy(NextIs("[^") ? 2 : 1);
    for (bool first = true; status_.ok() && at_ < text_.size(); first = false) {
      if (NextIs("]") && !first) return Copy(1);
      if (!NextIs("\\")) {
        // RE2 knows [[:digit:]].
        NextIs("[") ? Replace(1, "\\[") : Copy(1);
        continue;
      }
      const bool is_class = absl::ascii_isalpha(at_ + 1 < text_.size() ? text_[at_ + 1] : '\0');
      TakeEscape(/*in_set=*/true);
      if (is_class && NextIs("-") && !NextIs("-]")) Invalid("a range from a class");
    }
  }

  void TakeExtension() {
    for (const Extension& extension : kUnsupported) {
      if (NextIs(extension.begins)) return Unsupported(extension.name);
    }
    if (NextIs("(?:")) return Copy(3);
    if (NextIs("(?P<")) {
      const size_t end = std::min(text_.find('>', at_), text_.size() - 1) + 1;
      const absl::string_view name = text_.substr(at_, end - at_);
      // RE2 judges the rest of a name.
      const bool begins_with_digit =
          name.size() > 4 && absl::ascii_isdigit(static_cast<unsigned char>(name[4]));
      if (begins_with_digit || !names_.insert(name).second) {
        return Invalid("a bad or second name of a group");
      }
      return Copy(name.size());
    }
    const size_t end = text_.find_first_not_of("is", at_ + 2);
    const bool known = end > at_ + 2 && end != absl::string_view::npos;
    if (!known || !absl::StrContains(":)", text_[end])) {
      return Unsupported("a group or flag of this kind");
    }
    const bool global = text_[end] == ')';
    if (global && re2_.size() > flags_) return Invalid("a flag for all that is not its beginning");
    ignores_case_ = ignores_case_ || absl::StrContains(text_.substr(at_, end - at_), 'i');
    Copy(end + 1 - at_);
    if (global) flags_ = re2_.size();
  }

  void TakeRepetition(bool behind_anchor) {
    if (!NextIs("{")) return Repeat(1, text_.substr(at_, 1), behind_anchor);
    constexpr absl::string_view kDigits = "0123456789";
    const size_t low = at_ + 1;
    const size_t low_end = std::min(text_.find_first_not_of(kDigits, low), text_.size());
    const bool comma = absl::StartsWith(text_.substr(low_end), ",");
    const size_t high = low_end + (comma ? 1 : 0);
    const size_t end = std::min(text_.find_first_not_of(kDigits, high), text_.size());
    // Without a count in it, a brace is a character.
    if (end == low || !absl::StartsWith(text_.substr(end), "}")) return Replace(1, "\\{");
    const absl::string_view least = low_end > low ? text_.substr(low, low_end - low) : "0";
    const absl::string_view most = end > high ? text_.substr(high, end - high) : "0";
    for (const absl::string_view count : {least, most}) {
      int value = 0;
      if (!absl::SimpleAtoi(count, &value) || value > kMaxCount) {
        return Invalid(absl::StrCat("a count above ", kMaxCount));
      }
    }
    Repeat(end + 1 - at_, absl::StrCat("{", least, text_.substr(low_end, end - low_end), "}"),
           behind_anchor);
  }

  void Repeat(size_t size, absl::string_view operation, bool behind_anchor) {
    if (behind_anchor) return Invalid("nothing to repeat");
    Replace(size, operation);
    if (NextIs("+")) return Unsupported("a repetition that gives nothing back");
    if (NextIs("?")) Copy(1);
  }

  absl::string_view text_;
  size_t at_ = 0;
  absl::Status status_;
  std::string re2_;
  std::set<absl::string_view> names_;  // They are those of groups.
  size_t flags_ = 0;                   // So many bytes of re2_ are flags for all of it.
  bool behind_anchor_ = false;
  bool ignores_case_ = false;
};

}  // namespace

absl::StatusOr<std::string> TranslatePythonPattern(absl::string_view pattern) {
  return Translation(pattern).Run();
}

}  // namespace salient
