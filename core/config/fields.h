// Typed, bounded reading of the members of one JSON object; the first fault is kept.
#ifndef SALIENT_CORE_CONFIG_FIELDS_H_
#define SALIENT_CORE_CONFIG_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/config/json.h"

namespace salient {

// Every reader returns nullopt for a member that is absent or null, and also after a fault, so
// that a caller reads all it wants and asks for status() once. Borrows `object`.
class ConfigFields {
 public:
  // `path` is put before the names of fields in errors: "" or "rope_scaling.".
  ConfigFields(absl::string_view source, absl::string_view path, const JsonValue& object)
      : source_(source), path_(path), object_(object) {}

  // Reads an integer of [least, most].
  std::optional<int64_t> Integer(absl::string_view field, int64_t least, int64_t most);
  // Reads a finite number of [least, most], integers included.
  std::optional<double> Number(absl::string_view field, double least, double most);
  std::optional<bool> Bool(absl::string_view field);
  std::optional<std::string> String(absl::string_view field);
  // Returns the value itself, nullptr for an absent or null member.
  const JsonValue* Value(absl::string_view field) const;
  // Tells whether there is such a member, be it null, and whether it is null.
  bool Has(absl::string_view field) const { return object_.Find(field) != nullptr; }
  bool IsNull(absl::string_view field) const { return Has(field) && Value(field) == nullptr; }

  // Reads the same, and a fault when there is none; the least value then.
  int64_t RequiredInteger(absl::string_view field, int64_t least, int64_t most);
  double RequiredNumber(absl::string_view field, double least, double most);

  // Records "<source>: <path><field> is <value>; expected <expected>".
  void Fault(absl::StatusCode code, absl::string_view field, absl::string_view value,
             absl::string_view expected);
  void Invalid(absl::string_view field, absl::string_view value, absl::string_view expected) {
    Fault(absl::StatusCode::kInvalidArgument, field, value, expected);
  }
  void Unsupported(absl::string_view field, absl::string_view value, absl::string_view expected) {
    Fault(absl::StatusCode::kUnimplemented, field, value, expected);
  }

  // Records the fault of an object inside this one.
  void Take(const absl::Status& fault) { status_.Update(fault); }

  const absl::Status& status() const { return status_; }

 private:
  void Missing(absl::string_view field, absl::string_view expected);

  std::string source_;
  std::string path_;
  const JsonValue& object_;
  absl::Status status_;
};

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_FIELDS_H_
