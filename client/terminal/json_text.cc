#include "client/terminal/json_text.h"

#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/config/json.h"

namespace salient::client {

std::string JsonArray(absl::Span<const std::string> items) {
  return absl::StrCat("[", absl::StrJoin(items, ", "), "]");
}

JsonObject& JsonObject::AddJson(absl::string_view name, absl::string_view json) {
  absl::StrAppend(&fields_, fields_.empty() ? "" : ", ", JsonQuote(name), ": ", json);
  return *this;
}

JsonObject& JsonObject::AddString(absl::string_view name, absl::string_view value) {
  return AddJson(name, JsonQuote(value));
}

JsonObject& JsonObject::AddNumber(absl::string_view name, double value) {
  if (!std::isfinite(value)) return AddJson(name, "null");
  char buffer[32];
  // This is the shortest text that reads back as the same double, whatever the locale.
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return AddJson(name, absl::string_view(buffer, static_cast<size_t>(end - buffer)));
}

JsonObject& JsonObject::AddInteger(absl::string_view name, int64_t value) {
  return AddJson(name, absl::StrCat(value));
}

JsonObject& JsonObject::AddBool(absl::string_view name, bool value) {
  return AddJson(name, value ? "true" : "false");
}

}  // namespace salient::client
