#include "client/terminal/json_text.h"

#include <charconv>
#include <cmath>

#include "absl/strings/numbers.h"

namespace salient::client {

JsonValue JsonArray(const std::vector<JsonObject>& objects) {
  JsonValue::Array items;
  for (const JsonObject& object : objects) items.emplace_back(object.fields_);
  return JsonValue(std::move(items));
}

JsonObject& JsonObject::Add(absl::string_view name, JsonValue value) {
  fields_.emplace_back(name, std::move(value));
  return *this;
}

JsonObject& JsonObject::AddObject(absl::string_view name, const JsonObject& object) {
  return Add(name, JsonValue(object.fields_));
}

JsonObject& JsonObject::AddArray(absl::string_view name, const std::vector<JsonObject>& objects) {
  return Add(name, JsonArray(objects));
}

JsonObject& JsonObject::AddString(absl::string_view name, absl::string_view value) {
  return Add(name, JsonValue(std::string(value)));
}

JsonObject& JsonObject::AddNumber(absl::string_view name, double value) {
  if (!std::isfinite(value)) return Add(name, JsonValue());
  char buffer[32];
  // This is the shortest text that reads back as the same double, whatever the locale. One that
  // reads as an integer is written as one, without a fraction.
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  int64_t integer = 0;
  const bool whole =
      absl::SimpleAtoi(absl::string_view(buffer, static_cast<size_t>(end - buffer)), &integer);
  if (!whole) return Add(name, JsonValue(value));
  return Add(name, std::signbit(value) ? JsonValue(integer) : JsonValue::Integer(integer));
}

JsonObject& JsonObject::AddInteger(absl::string_view name, int64_t value) {
  return Add(name, JsonValue::Integer(value));
}

JsonObject& JsonObject::AddBool(absl::string_view name, bool value) {
  return Add(name, JsonValue(value));
}

}  // namespace salient::client
