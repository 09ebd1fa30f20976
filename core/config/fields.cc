#include "core/config/fields.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

std::string IntegerRange(int64_t least, int64_t most) {
  return absl::StrCat("an integer from ", least, " to ", most);
}

std::string NumberRange(double least, double most) {
  return absl::StrCat("a number from ", least, " to ", most);
}

}  // namespace

void ConfigFields::Fault(absl::StatusCode code, absl::string_view field, absl::string_view value,
                         absl::string_view expected) {
  if (!status_.ok()) return;
  status_ = absl::Status(
      code, absl::StrCat(source_, ": ", path_, field, " is ", value, "; expected ", expected));
}

void ConfigFields::Missing(absl::string_view field, absl::string_view expected) {
  if (!status_.ok()) return;
  const bool is_null = object_.Find(field) != nullptr;
  status_ = absl::InvalidArgumentError(absl::StrCat(
      source_, ": ", path_, field, is_null ? " is null" : " is missing", "; expected ", expected));
}

const JsonValue* ConfigFields::Value(absl::string_view field) const {
  const JsonValue* value = object_.Find(field);
  return value == nullptr || value->IsNull() ? nullptr : value;
}

std::optional<int64_t> ConfigFields::Integer(absl::string_view field, int64_t least, int64_t most) {
  const JsonValue* value = Value(field);
  if (value == nullptr || !status_.ok()) return std::nullopt;
  const std::optional<int64_t> integer = value->AsInt64();
  if (integer.has_value() && *integer >= least && *integer <= most) return integer;
  Invalid(field, value->Describe(), IntegerRange(least, most));
  return std::nullopt;
}

std::optional<double> ConfigFields::Number(absl::string_view field, double least, double most) {
  const JsonValue* value = Value(field);
  if (value == nullptr || !status_.ok()) return std::nullopt;
  const std::optional<double> number = value->AsDouble();
  if (number.has_value() && *number >= least && *number <= most) return number;
  Invalid(field, value->Describe(), NumberRange(least, most));
  return std::nullopt;
}

std::optional<bool> ConfigFields::Bool(absl::string_view field) {
  const JsonValue* value = Value(field);
  if (value == nullptr || !status_.ok()) return std::nullopt;
  if (const bool* truth = value->AsBool()) return *truth;
  Invalid(field, value->Describe(), "true or false");
  return std::nullopt;
}

std::optional<std::string> ConfigFields::String(absl::string_view field) {
  const JsonValue* value = Value(field);
  if (value == nullptr || !status_.ok()) return std::nullopt;
  if (const std::string* text = value->AsString()) return *text;
  Invalid(field, value->Describe(), "a string");
  return std::nullopt;
}

int64_t ConfigFields::RequiredInteger(absl::string_view field, int64_t least, int64_t most) {
  const std::optional<int64_t> value = Integer(field, least, most);
  if (!value.has_value()) Missing(field, IntegerRange(least, most));
  return value.value_or(least);
}

double ConfigFields::RequiredNumber(absl::string_view field, double least, double most) {
  const std::optional<double> value = Number(field, least, most);
  if (!value.has_value()) Missing(field, NumberRange(least, most));
  return value.value_or(least);
}

}  // namespace salient
