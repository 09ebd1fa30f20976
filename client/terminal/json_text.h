// JSON for machines that read our standard output. Its text is made by core/config.
#ifndef SALIENT_CLIENT_TERMINAL_JSON_TEXT_H_
#define SALIENT_CLIENT_TERMINAL_JSON_TEXT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/config/json.h"

namespace salient::client {

// Is an object whose fields stand in the order they were added. It is not thread-safe.
class JsonObject {
 public:
  JsonObject& AddString(absl::string_view name, absl::string_view value);
  // Adds a number. NaN and infinity, which JSON does not have, become null. A double reads back
  // exactly.
  JsonObject& AddNumber(absl::string_view name, double value);
  JsonObject& AddInteger(absl::string_view name, int64_t value);
  JsonObject& AddBool(absl::string_view name, bool value);
  JsonObject& Add(absl::string_view name, JsonValue value);
  JsonObject& AddObject(absl::string_view name, const JsonObject& object);
  JsonObject& AddArray(absl::string_view name, const std::vector<JsonObject>& objects);
  template <typename Strings>
  JsonObject& AddStrings(absl::string_view name, const Strings& strings) {
    JsonValue::Array items;
    for (const std::string& text : strings) items.emplace_back(text);
    return Add(name, JsonValue(std::move(items)));
  }

  // Returns one line, without a newline.
  std::string Text() const { return JsonText(JsonValue(fields_), JsonLayout::kOneLine); }

 private:
  friend JsonValue JsonArray(const std::vector<JsonObject>& objects);
  JsonValue::Object fields_;
};

JsonValue JsonArray(const std::vector<JsonObject>& objects);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_JSON_TEXT_H_
