#include "core/engines/described_config.h"

#include "core/checkpoint/json.h"

namespace salient {
namespace {

// The strings of a list; what is no string is no name of a module.
std::vector<std::string> Strings(const JsonValue* list) {
  std::vector<std::string> strings;
  if (list == nullptr || list->AsArray() == nullptr) return strings;
  for (const JsonValue& item : *list->AsArray()) {
    if (item.AsString() != nullptr && !item.AsString()->empty())
      strings.push_back(*item.AsString());
  }
  return strings;
}

}  // namespace

absl::StatusOr<DescribedConfig> DescribedConfig::Parse(const ModelConfig& config,
                                                       absl::string_view json) {
  DescribedConfig described;
  if (!config.quantization.has_value()) return described;
  described.config_ = *config.quantization;
  const absl::StatusOr<JsonValue> document = ParseJson(config.source, json);
  if (!document.ok()) return document.status();
  const JsonValue* object = document->Find("quantization_config");
  if (object == nullptr) return described;
  described.skipped_ = Strings(object->Find("modules_to_not_convert"));
  const JsonValue* version = object->Find("version");
  if (version != nullptr && version->AsString() != nullptr) {
    described.version_ = *version->AsString();
  }
  return described;
}

bool DescribedConfig::SaysPlain(absl::string_view module) const {
  return !quant_method().empty() && !config_.FormatOf(module).has_value();
}

StoredFormat DescribedConfig::FormatOf(absl::string_view module) const {
  return config_.FormatOf(module).value_or(StoredFormat{{0, 0, false, DType::kF16}});
}

}  // namespace salient
