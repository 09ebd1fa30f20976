// JSON for machines that read our standard output. Reading and quoting are core/config's part.
#ifndef SALIENT_CLIENT_TERMINAL_JSON_TEXT_H_
#define SALIENT_CLIENT_TERMINAL_JSON_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient::client {

// Writes an object whose fields stand in the order they were added. It is not thread-safe.
class JsonObject {
 public:
  JsonObject& AddString(absl::string_view name, absl::string_view value);
  // Adds a number. NaN and infinity, which JSON does not have, become null. A double reads back
  // exactly.
  JsonObject& AddNumber(absl::string_view name, double value);
  JsonObject& AddInteger(absl::string_view name, int64_t value);
  JsonObject& AddBool(absl::string_view name, bool value);
  // Adds `json`, which is valid JSON already.
  JsonObject& AddJson(absl::string_view name, absl::string_view json);

  // Returns one line, without a newline.
  std::string Text() const { return fields_.empty() ? "{}" : "{" + fields_ + "}"; }

 private:
  std::string fields_;
};

// Returns "[a, b]" of items that are valid JSON already.
std::string JsonArray(absl::Span<const std::string> items);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_JSON_TEXT_H_
