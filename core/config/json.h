// Reads JSON from untrusted sources, bounded in depth and in values, into a small value type, and
// writes it.
#ifndef SALIENT_CORE_CONFIG_JSON_H_
#define SALIENT_CORE_CONFIG_JSON_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient {

// Is one JSON value. A number keeps the form it was written in: without fraction, exponent and
// minus sign it is a uint64_t, with a minus sign alone an int64_t, otherwise a double. So 2, -0,
// 2.0 and 2e0 can be told apart, and integers are exact.
class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Member = std::pair<std::string, JsonValue>;
  using Object = std::vector<Member>;  // They stand in the order of the document.

  // Makes null.
  JsonValue() = default;
  explicit JsonValue(bool value) : value_(value) {}
  explicit JsonValue(int64_t value) : value_(value) {}
  explicit JsonValue(uint64_t value) : value_(value) {}
  explicit JsonValue(double value) : value_(value) {}
  explicit JsonValue(std::string value) : value_(std::move(value)) {}
  explicit JsonValue(Array value) : value_(std::move(value)) {}
  explicit JsonValue(Object value) : value_(std::move(value)) {}
  // Returns an integer in the form that it has when it is parsed.
  static JsonValue Integer(int64_t value) {
    return value < 0 ? JsonValue(value) : JsonValue(static_cast<uint64_t>(value));
  }

  bool IsNull() const { return std::holds_alternative<std::monostate>(value_); }

  // Each is nullptr when the value is of another type.
  const bool* AsBool() const { return std::get_if<bool>(&value_); }
  const uint64_t* AsUint64() const { return std::get_if<uint64_t>(&value_); }
  const std::string* AsString() const { return std::get_if<std::string>(&value_); }
  const Array* AsArray() const { return std::get_if<Array>(&value_); }
  const Object* AsObject() const { return std::get_if<Object>(&value_); }
  Array* AsArray() { return std::get_if<Array>(&value_); }
  Object* AsObject() { return std::get_if<Object>(&value_); }

  // Returns an integer that fits; nullopt otherwise.
  std::optional<int64_t> AsInt64() const;
  // Returns any number.
  std::optional<double> AsDouble() const;

  // Returns the last member named `key`; nullptr when there is none or this is no object. It takes
  // linear time.
  const JsonValue* Find(absl::string_view key) const;

  // Returns what messages call it: "null", "a string", "3", "2.5" ...; it is never long.
  std::string Describe() const;

 private:
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Array, Object> value_;
};

struct JsonLimits {
  int64_t max_depth = 64;        // Arrays and objects may lie inside each other so deep.
  int64_t max_values = 1 << 20;  // Values of any type count, containers included.
  // When false, all members of one name are kept, for the caller to judge.
  bool reject_duplicate_keys = true;
  // This says whether NaN, Infinity, -Infinity and surrogates without their other half are taken,
  // as Python's reader takes them. Such a surrogate stands in a string as the three bytes that
  // UTF-8 would give.
  bool like_python = false;
};

// While it lives, parsing on its thread asks `keep_going` every few thousand values and ends with
// its error: a text of a hundred megabytes takes seconds. The last one made counts. Borrows.
class JsonInterrupt {
 public:
  explicit JsonInterrupt(absl::FunctionRef<absl::Status()> keep_going);
  ~JsonInterrupt();
  JsonInterrupt(const JsonInterrupt&) = delete;
  JsonInterrupt& operator=(const JsonInterrupt&) = delete;

 private:
  friend class JsonBuilder;
  const absl::FunctionRef<absl::Status()> keep_going_;
  const JsonInterrupt* const before_;
};

// Parses one JSON text (RFC 8259: UTF-8 without byte order mark, no comments, nothing but
// white space around the value). `source` names it in errors.
//
// Errors: INVALID_ARGUMENT naming `source`, the byte and what is wrong there; that of a
// JsonInterrupt.
absl::StatusOr<JsonValue> ParseJson(absl::string_view source, absl::string_view text,
                                    const JsonLimits& limits = {});

// Tells `visit` every value that is no array or object, with the names of the members that it lies
// in, outermost first; an element of an array counts as a member without a name. Nothing of the
// document is kept, so members of one name are all told, whatever the limits say of them. Errors as
// ParseJson.
absl::Status VisitJson(
    absl::string_view source, absl::string_view text, const JsonLimits& limits,
    absl::FunctionRef<void(absl::Span<const std::string> path, const JsonValue& value)> visit);

// Returns `text` as a JSON string with its quotes. Escapes only what must be escaped, so UTF-8
// stays as it is, but for surrogates. `text` is not checked to be UTF-8.
std::string JsonQuote(absl::string_view text);

enum class JsonLayout {
  kLines,    // Each member has a line, two spaces a level; a line feed is at the end.
  kOneLine,  // Commas and colons have a space behind them.
  kDense,    // Nothing stands between values that need not.
};

// Returns `value` as JSON text, members in their order. Parsing it gives the value again: integers
// stay integers, others the same double. What is not finite, and surrogates without their other
// half, are written as Python writes them, which nlohmann's writer cannot, nor one line with
// spaces: so this is a writer of our own.
std::string JsonText(const JsonValue& value, JsonLayout layout = JsonLayout::kLines);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_JSON_H_
