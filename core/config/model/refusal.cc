#include "core/config/model/refusal.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace salient {
namespace {

unsigned TypeOf(const JsonValue& value) {
  if (value.IsNull()) return kNullValue;
  if (value.AsBool() != nullptr) return kBoolValue;
  if (value.AsString() != nullptr) return kStringValue;
  if (value.AsArray() != nullptr) return kArrayValue;
  if (value.AsObject() != nullptr) return kObjectValue;
  return value.AsUint64() != nullptr || value.AsInt64().has_value() ? kIntegerValue : kFloatValue;
}

std::string NamesOf(unsigned types) {
  constexpr std::pair<unsigned, absl::string_view> kNames[] = {
      {kBoolValue, "true or false"},
      {kIntegerValue, "an integer"},
      {kFloatValue, "a number with a decimal point"},
      {kStringValue, "a string"},
      {kArrayValue, "a list"},
      {kObjectValue, "an object"},
      {kNullValue, "null"}};
  std::vector<absl::string_view> names;
  for (const auto& [type, name] : kNames) {
    if ((types & type) != 0) names.push_back(name);
  }
  return absl::StrJoin(names, " or ");
}

}  // namespace

std::string RefusalText(const ConfigClass& config_class, absl::string_view field,
                        absl::string_view value, absl::string_view expected) {
  return absl::StrCat(field, " is ", value, "; expected ", expected, ", or transformers' ",
                      config_class.name, " refuses it");
}

std::string MendText(const ConfigRefusal& refusal) {
  switch (refusal.mend) {
    case ConfigRefusal::Mend::kNone:
    case ConfigRefusal::Mend::kAdd:
      break;
    case ConfigRefusal::Mend::kLeaveOut:
      return absl::StrCat(refusal.text, ": the result leaves it out");
    case ConfigRefusal::Mend::kReplace:
      return absl::StrCat(refusal.text, ": the result says ", refusal.replacement.Describe());
  }
  return "";
}

std::vector<ConfigRefusal> CheckConfigTypes(const ConfigClass& config_class,
                                            const JsonValue& config) {
  std::vector<ConfigRefusal> refusals;
  for (const auto& keys : {config_class.keys, config_class.more_keys}) {
    for (const ConfigKey& key : keys) {
      const JsonValue* value = config.Find(key.name);
      if (value == nullptr || (TypeOf(*value) & key.types) != 0) continue;
      ConfigRefusal refusal{
          std::string(key.name),
          RefusalText(config_class, key.name, value->Describe(), NamesOf(key.types))};
      if (value->IsNull()) refusal.mend = ConfigRefusal::Mend::kLeaveOut;
      if (TypeOf(*value) == kIntegerValue && (key.types & kFloatValue) != 0) {
        refusal.mend = ConfigRefusal::Mend::kReplace;
        refusal.replacement = JsonValue(*value->AsDouble());
      }
      refusals.push_back(std::move(refusal));
    }
  }
  return refusals;
}

}  // namespace salient
