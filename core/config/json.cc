#include "core/config/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/config/python_json.h"
#include "core/text/quote.h"

namespace salient {
namespace {

thread_local const JsonInterrupt* interrupt = nullptr;  // It is the newest of the thread.

using Visitor = absl::FunctionRef<void(absl::Span<const std::string> path, const JsonValue& value)>;

}  // namespace

// Receives the parser's events and builds the value bottom up, or, with a visitor, tells that of
// what would be built. The parser itself keeps no stack of calls, so depth costs nothing before the
// limit is reached.
class JsonBuilder {
 public:
  JsonBuilder(const JsonLimits& limits, PythonMarks marks, const Visitor* visit)
      : limits_(limits), marks_(std::move(marks)), visit_(visit) {}

  // The names are the parser's.
  bool null() {
    const std::optional<double> number = marks_.NextNull();
    return Add(number.has_value() ? JsonValue(*number) : JsonValue());
  }
  bool boolean(bool value) { return Add(JsonValue(value)); }
  bool number_integer(int64_t value) { return Add(JsonValue(value)); }
  bool number_unsigned(uint64_t value) { return Add(JsonValue(value)); }
  bool number_float(double value, const std::string& /*text*/) { return Add(JsonValue(value)); }
  bool string(std::string& value) {
    marks_.Restore(value);
    return Add(JsonValue(std::move(value)));
  }
  bool binary(nlohmann::json::binary_t& /*value*/) { return Fail("binary value"); }
  bool start_array(size_t /*size*/) { return Open(JsonValue(JsonValue::Array())); }
  bool end_array() { return Close(); }
  bool start_object(size_t /*size*/) { return Open(JsonValue(JsonValue::Object())); }
  bool key(std::string& value) {
    marks_.Restore(value);
    keys_.back() = std::move(value);
    return true;
  }
  bool end_object() {
    if (limits_.reject_duplicate_keys) {
      std::vector<absl::string_view> names;
      for (const JsonValue::Member& member : *open_.back().AsObject())
        names.push_back(member.first);
      std::sort(names.begin(), names.end());
      const auto twice = std::adjacent_find(names.begin(), names.end());
      if (twice != names.end()) {
        return Fail(absl::StrCat("an object has two members named ", QuoteForMessage(*twice)));
      }
    }
    return Close();
  }
  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::json::exception& error) {
    // what() starts with the library's own "[json.exception...] " and may quote the input.
    absl::string_view what = error.what();
    const size_t end = what.find("] ");
    if (end != absl::string_view::npos) what.remove_prefix(end + 2);
    return Fail(absl::StrCat("near byte ", position, ": ", QuoteForMessage(what, 200)));
  }

  std::string& error() { return error_; }
  const absl::Status& interrupted() const { return interrupted_; }
  JsonValue& root() { return root_; }

 private:
  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  bool Count() {
    constexpr int64_t kValuesBetween = 4096;
    if (++values_ % kValuesBetween == 0 && interrupt != nullptr) {
      interrupted_ = interrupt->keep_going_();
      if (!interrupted_.ok()) return false;
    }
    if (values_ <= limits_.max_values) return true;
    return Fail(absl::StrCat("more than ", limits_.max_values, " values"));
  }

  bool Attach(JsonValue value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (JsonValue::Array* array = open_.back().AsArray()) {
      array->push_back(std::move(value));
    } else {
      open_.back().AsObject()->emplace_back(std::move(keys_.back()), std::move(value));
    }
    return true;
  }

  bool Add(JsonValue value) {
    if (!Count()) return false;
    if (visit_ == nullptr) return Attach(std::move(value));
    (*visit_)(keys_, value);
    return true;
  }

  bool Open(JsonValue container) {
    if (static_cast<int64_t>(open_.size()) >= limits_.max_depth) {
      return Fail(absl::StrCat("nested deeper than ", limits_.max_depth, " levels"));
    }
    if (!Count()) return false;
    open_.push_back(std::move(container));
    keys_.emplace_back();
    return true;
  }

  bool Close() {
    JsonValue value = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return visit_ != nullptr || Attach(std::move(value));
  }

  const JsonLimits limits_;
  PythonMarks marks_;
  const Visitor* const visit_;
  int64_t values_ = 0;
  // They hold containers that are not closed yet, outermost first.
  std::vector<JsonValue> open_;
  std::vector<std::string> keys_;  // Each has its pending key here.
  JsonValue root_;
  std::string error_;
  absl::Status interrupted_;
};

namespace {

// Returns the shortest text that reads as the same double, and as no integer.
std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  const std::string number(text, end);
  const bool like_integer = number.find_first_of(".en") == std::string::npos;
  return like_integer ? number + ".0" : number;
}

// Depth is bounded by the parser that the value came from, or by the code that made it.
void AppendJson(const JsonValue& value, JsonLayout layout, int depth, std::string* out) {
  const JsonValue::Array* array = value.AsArray();
  const JsonValue::Object* object = value.AsObject();
  if (const std::string* text = value.AsString()) {
    *out += JsonQuote(*text);
  } else if (array != nullptr || object != nullptr) {
    const size_t count = array != nullptr ? array->size() : object->size();
    *out += array != nullptr ? '[' : '{';
    const absl::string_view space = layout == JsonLayout::kDense ? "" : " ";
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) *out += ',';
      if (layout == JsonLayout::kLines) {
        absl::StrAppend(out, "\n", std::string(2 * (depth + 1), ' '));
      } else if (i > 0) {
        absl::StrAppend(out, space);
      }
      if (object != nullptr) absl::StrAppend(out, JsonQuote((*object)[i].first), ":", space);
      AppendJson(array != nullptr ? (*array)[i] : (*object)[i].second, layout, depth + 1, out);
    }
    if (count > 0 && layout == JsonLayout::kLines) {
      absl::StrAppend(out, "\n", std::string(2 * depth, ' '));
    }
    *out += array != nullptr ? ']' : '}';
  } else if (value.AsUint64() == nullptr && !value.AsInt64().has_value() &&
             value.AsDouble().has_value()) {
    *out += NumberText(*value.AsDouble());
  } else {
    *out += value.Describe();  // It gives null, true, false and integers as JSON writes them.
  }
}

}  // namespace

std::optional<int64_t> JsonValue::AsInt64() const {
  if (const auto* value = std::get_if<int64_t>(&value_)) return *value;
  const uint64_t* value = AsUint64();
  if (value == nullptr || *value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*value);
}

std::optional<double> JsonValue::AsDouble() const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  if (const auto* value = std::get_if<int64_t>(&value_)) return static_cast<double>(*value);
  if (const auto* value = AsUint64()) return static_cast<double>(*value);
  return std::nullopt;
}

const JsonValue* JsonValue::Find(absl::string_view key) const {
  const Object* object = AsObject();
  if (object == nullptr) return nullptr;
  for (auto member = object->rbegin(); member != object->rend(); ++member) {
    if (member->first == key) return &member->second;
  }
  return nullptr;
}

std::string JsonValue::Describe() const {
  if (IsNull()) return "null";
  if (const bool* value = AsBool()) return *value ? "true" : "false";
  if (const std::string* value = AsString()) return QuoteForMessage(*value, 64);
  if (const Array* value = AsArray()) return absl::StrCat("an array of ", value->size());
  if (const Object* value = AsObject()) return absl::StrCat("an object of ", value->size());
  if (const uint64_t* value = AsUint64()) return absl::StrCat(*value);
  if (const auto* value = std::get_if<int64_t>(&value_)) {
    return *value == 0 ? "-0" : absl::StrCat(*value);
  }
  // It is written as a float, so that 2.0 does not read like the integer it is not.
  char text[32];
  std::snprintf(text, sizeof(text), "%#.15g", std::get<double>(value_));
  return text;
}

JsonInterrupt::JsonInterrupt(absl::FunctionRef<absl::Status()> keep_going)
    : keep_going_(keep_going), before_(std::exchange(interrupt, this)) {}

JsonInterrupt::~JsonInterrupt() { interrupt = before_; }

namespace {

absl::StatusOr<JsonValue> Parse(absl::string_view source, absl::string_view text,
                                const JsonLimits& limits, const Visitor* visit) {
  // Two things the parser lets pass and JSON does not: it skips a byte order mark, and takes
  // a NUL byte for the end of the text.
  if (absl::StartsWith(text, "\xEF\xBB\xBF")) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": starts with a byte order mark; expected JSON"));
  }
  if (const size_t nul = text.find('\0'); nul != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": NUL byte at byte ", nul, "; expected JSON"));
  }
  std::string plain;
  PythonMarks marks;
  if (limits.like_python) {
    std::tie(plain, marks) = MarkPython(text);
    text = plain;
  }
  JsonBuilder builder(limits, std::move(marks), visit);
  if (!nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &builder)) {
    if (!builder.interrupted().ok()) return builder.interrupted();
    return absl::InvalidArgumentError(absl::StrCat(source, ": not valid JSON: ", builder.error()));
  }
  return std::move(builder.root());
}

}  // namespace

absl::StatusOr<JsonValue> ParseJson(absl::string_view source, absl::string_view text,
                                    const JsonLimits& limits) {
  return Parse(source, text, limits, nullptr);
}

absl::Status VisitJson(absl::string_view source, absl::string_view text, const JsonLimits& limits,
                       Visitor visit) {
  return Parse(source, text, limits, &visit).status();
}

std::string JsonQuote(absl::string_view text) {
  std::string quoted = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (const std::optional<uint16_t> half = SurrogateAt(text, i)) {
      absl::StrAppend(&quoted, "\\u", absl::Hex(*half, absl::kZeroPad4));
      i += 2;
      continue;
    }
    switch (c) {
      case '"':
        quoted += "\\\"";
        break;
      case '\\':
        quoted += "\\\\";
        break;
      case '\b':
        quoted += "\\b";
        break;
      case '\f':
        quoted += "\\f";
        break;
      case '\n':
        quoted += "\\n";
        break;
      case '\r':
        quoted += "\\r";
        break;
      case '\t':
        quoted += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppend(&quoted, "\\u", absl::Hex(c, absl::kZeroPad4));
        } else {
          quoted += c;
        }
    }
  }
  return quoted + "\"";
}

std::string JsonText(const JsonValue& value, JsonLayout layout) {
  std::string text;
  AppendJson(value, layout, 0, &text);
  if (layout == JsonLayout::kLines) text += '\n';
  return text;
}

}  // namespace salient
