// NamePattern::Parse: from text to the program that NamePattern runs.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/config/name_pattern.h"

namespace salient {
namespace {

constexpr int kMaxDepth = 32;        // Groups may lie inside each other so deep.
constexpr size_t kMaxSteps = 2048;   // Repetitions are written out.
constexpr int64_t kMaxCount = 1000;  // It limits the m and n of {m,n}.

using Characters = std::bitset<256>;

Characters Where(bool (*holds)(unsigned char)) {
  Characters set;
  for (int c = 0; c < 128; ++c) set[c] = holds(static_cast<unsigned char>(c));
  return set;
}

size_t Index(char c) { return static_cast<unsigned char>(c); }

}  // namespace

// Parses by recursive descent; it returns programs whose jumps are relative, so that they can be
// put behind each other and repeated.
class NamePatternParser {
 public:
  using Step = NamePattern::Step;
  using Program = std::vector<Step>;

  explicit NamePatternParser(absl::string_view text) : text_(text) {}

  absl::StatusOr<NamePattern> Run() {
    NamePattern pattern;
    pattern.program_ = Alternatives(0);
    if (status_.ok() && at_ < text_.size()) Invalid("\")\" without \"(\"");
    if (!status_.ok()) return status_;
    return pattern;
  }

 private:
  void Invalid(absl::string_view what) {
    status_.Update(absl::InvalidArgumentError(absl::StrCat(what, " at byte ", at_)));
  }
  void Unsupported(absl::string_view what) {
    status_.Update(absl::UnimplementedError(absl::StrCat(what, " at byte ", at_)));
  }

  bool Peek(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool Take(char c) {
    if (!Peek(c)) return false;
    ++at_;
    return true;
  }

  // Returns whether a program of `steps` steps more is not too large.
  bool Fits(size_t steps) {
    if (steps <= kMaxSteps) return true;
    Invalid(absl::StrCat("more than ", kMaxSteps, " steps"));
    return false;
  }

  void Append(const Program& program, Program& to) {
    if (Fits(to.size() + program.size())) to.insert(to.end(), program.begin(), program.end());
  }

  Program Alternatives(int depth) {
    Program program = Sequence(depth);
    while (status_.ok() && Take('|')) {
      // The program is: fork first, program, jump to the end, other.
      const Program other = Sequence(depth);
      Program either = {Fork(1, program.size() + 2)};
      Append(program, either);
      either.push_back(Jump(static_cast<int64_t>(other.size()) + 1));
      Append(other, either);
      program = std::move(either);
    }
    return program;
  }

  Program Sequence(int depth) {
    Program program;
    while (status_.ok() && at_ < text_.size() && !Peek('|') && !Peek(')')) {
      Append(Repeated(Atom(depth)), program);
    }
    return program;
  }

  static Step Fork(int64_t to, int64_t other) {
    return {Step::Kind::kFork, static_cast<int32_t>(to), static_cast<int32_t>(other), {}};
  }
  static Step Jump(int64_t to) { return {Step::Kind::kJump, static_cast<int32_t>(to), 1, {}}; }

  Program Atom(int depth) {
    if (CountIsNext()) {
      Invalid("nothing to repeat");
      return {};
    }
    const char c = text_[at_];
    if (c == '(') return Group(depth);
    if (c == '^' || c == '$') {
      ++at_;
      if (CountIsNext()) Invalid("nothing to repeat");
      return {{c == '^' ? Step::Kind::kBegin : Step::Kind::kEnd, 1, 1, {}}};
    }
    Step step{Step::Kind::kCharacter, 1, 1, {}};
    if (c == '.') {
      ++at_;
      step.characters.set();
      step.characters.reset(Index('\n'));
    } else if (c == '[') {
      step.characters = Set();
    } else if (c == '\\') {
      step.characters = Escape();
    } else {
      ++at_;
      step.characters.set(Index(c));
    }
    return {step};
  }

  Program Group(int depth) {
    if (depth >= kMaxDepth) {
      Invalid(absl::StrCat("more than ", kMaxDepth, " groups inside each other"));
      return {};
    }
    if (text_.substr(at_, 2) == "(?" && text_.substr(at_, 3) != "(?:") {
      Unsupported("look-around or another group that begins with \"(?\", but \"(?:\",");
      return {};
    }
    at_ += text_.substr(at_, 3) == "(?:" ? 3 : 1;
    Program program = Alternatives(depth + 1);
    if (status_.ok() && !Take(')')) Invalid("the end, without \")\"");
    return program;
  }

  Characters Escape() {
    const char c = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    Characters set;
    switch (absl::ascii_tolower(static_cast<unsigned char>(c))) {
      case 'd':
        set = Where(absl::ascii_isdigit);
        break;
      case 'w':
        set = Where([](unsigned char x) { return absl::ascii_isalnum(x) || x == '_'; });
        break;
      case 's':
        set = Where(absl::ascii_isspace);
        break;
      default:
        if (!absl::ascii_ispunct(static_cast<unsigned char>(c))) {
          Unsupported("this escape");
          return set;
        }
        set.set(Index(c));
    }
    at_ += 2;
    return absl::ascii_isupper(static_cast<unsigned char>(c)) ? ~set : set;
  }

  Characters Set() {
    ++at_;
    const bool negated = Take('^');
    Characters set;
    for (bool first = true; status_.ok() && (first || !Peek(']')); first = false) {
      if (at_ >= text_.size()) {
        Invalid("the end, without \"]\"");
        return set;
      }
      const bool escaped = Peek('\\');
      Characters part;
      if (escaped) {
        part = Escape();
      } else {
        part.set(Index(text_[at_++]));
      }
      // It is a range, unless "-" is the last.
      if (Peek('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') part = Range(part);
      set |= part;
    }
    ++at_;
    return negated ? ~set : set;
  }

  // Reads from the one character of `low` to the one behind the "-".
  Characters Range(const Characters& low) {
    ++at_;
    Characters high;
    if (Peek('\\')) {
      high = Escape();
    } else {
      high.set(Index(text_[at_++]));
    }
    size_t from = 0;
    size_t to = 0;
    while (from < low.size() && !low[from]) ++from;
    while (to < high.size() && !high[to]) ++to;
    if (low.count() != 1 || high.count() != 1 || from > to) Invalid("a bad range, which ends");
    Characters range;
    for (size_t c = from; c <= to && c < range.size(); ++c) range.set(c);
    return range;
  }

  struct Count {
    int64_t least = 0;
    std::optional<int64_t> most;
  };

  // nullopt: nothing is repeated. "{" that starts no count is a character.
  std::optional<Count> TakeCount() {
    if (Take('*')) return Count{0, std::nullopt};
    if (Take('+')) return Count{1, std::nullopt};
    if (Take('?')) return Count{0, 1};
    if (!Peek('{')) return std::nullopt;
    const size_t close = text_.find('}', at_);
    if (close == absl::string_view::npos) return std::nullopt;
    const absl::string_view inside = text_.substr(at_ + 1, close - at_ - 1);
    const size_t comma = std::min(inside.find(','), inside.size());
    const auto number = [this](absl::string_view digits, int64_t absent) -> std::optional<int64_t> {
      if (digits.empty()) return absent;
      int64_t value = 0;
      for (const char digit : digits) {
        if (!absl::ascii_isdigit(static_cast<unsigned char>(digit))) return std::nullopt;
        value = std::min<int64_t>(10 * value + (digit - '0'), kMaxCount + 1);
      }
      if (value > kMaxCount) Invalid(absl::StrCat("a count above ", kMaxCount));
      return value;
    };
    if (inside.empty()) return std::nullopt;
    const std::optional<int64_t> least = number(inside.substr(0, comma), 0);
    const bool exact = comma == inside.size();
    const std::optional<int64_t> most =
        exact ? least : number(inside.substr(comma + 1), /*absent=*/-1);
    if (!least.has_value() || !most.has_value()) return std::nullopt;
    if (*most >= 0 && *most < *least) Invalid("a bad count");
    at_ = close + 1;
    return Count{*least, *most < 0 ? std::nullopt : most};
  }

  // Looks at the next character and does not take it.
  bool CountIsNext() {
    const size_t here = at_;
    const bool found = TakeCount().has_value();
    at_ = here;
    return found;
  }

  Program Repeated(Program atom) {
    const std::optional<Count> count = TakeCount();
    if (!count.has_value() || !status_.ok()) return atom;
    Take('?');  // A lazy repetition matches the same names.
    if (CountIsNext()) {
      Unsupported("a repetition that is repeated");
      return {};
    }
    const int64_t copies = count->most.value_or(count->least + 1);
    const auto size = static_cast<int64_t>(atom.size());
    if (!Fits(static_cast<size_t>(copies * size + (copies - count->least) + 1))) return {};
    Program program;
    for (int64_t i = 0; i < copies; ++i) {
      const bool endless = !count->most.has_value() && i + 1 == copies;
      if (i >= count->least) program.push_back(Fork(1, size + (endless ? 2 : 1)));
      Append(atom, program);
      if (endless) program.push_back(Jump(-size - 1));
    }
    return program;
  }

  absl::string_view text_;
  size_t at_ = 0;
  absl::Status status_;
};

absl::StatusOr<NamePattern> NamePattern::Parse(absl::string_view pattern) {
  return NamePatternParser(pattern).Run();
}

}  // namespace salient
