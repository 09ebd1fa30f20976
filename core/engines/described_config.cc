#include "core/engines/described_config.h"

#include <algorithm>

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

bool BoolOr(const JsonValue& object, absl::string_view field, bool otherwise) {
  const JsonValue* value = object.Find(field);
  return value != nullptr && value->AsBool() != nullptr ? *value->AsBool() : otherwise;
}

std::string StringOr(const JsonValue& object, absl::string_view field, std::string otherwise) {
  const JsonValue* value = object.Find(field);
  return value != nullptr && value->AsString() != nullptr ? *value->AsString() : otherwise;
}

// A member of the first group of compressed-tensors; nullptr if there is none.
const JsonValue* OfFirstGroup(const JsonValue& object, absl::string_view field) {
  const JsonValue* groups = object.Find("config_groups");
  if (groups == nullptr || groups->AsObject() == nullptr || groups->AsObject()->empty()) {
    return nullptr;
  }
  return groups->AsObject()->front().second.Find(field);
}

int64_t GroupSizeOf(const JsonValue& object) {
  const JsonValue* weights = OfFirstGroup(object, "weights");
  for (const JsonValue* said : {object.Find("group_size"), object.Find("q_group_size"),
                                weights == nullptr ? nullptr : weights->Find("group_size")}) {
    if (said != nullptr && said->AsInt64().has_value()) return *said->AsInt64();
  }
  return 0;
}

ActivationFormat ActivationsOf(const JsonValue& object) {
  const JsonValue* activations = OfFirstGroup(object, "input_activations");
  if (activations == nullptr || activations->IsNull()) return ActivationFormat::kNone;
  return BoolOr(*activations, "dynamic", false) ? ActivationFormat::kDynamicToken
                                                : ActivationFormat::kStaticTensor;
}

}  // namespace

absl::StatusOr<DescribedConfig> DescribedConfig::Parse(const ModelConfig& config,
                                                       absl::string_view json) {
  DescribedConfig described;
  const absl::StatusOr<JsonValue> document = ParseJson(config.source, json);
  if (!document.ok()) return document.status();
  const JsonValue* object = document->Find("quantization_config");
  if (object == nullptr || object->AsObject() == nullptr) return described;
  described.quant_method_ = StringOr(*object, "quant_method", "");
  described.version_ = StringOr(*object, "version", "");
  described.zero_point_ = BoolOr(*object, "zero_point", true);
  described.symmetric_ = BoolOr(*object, "sym", false);
  described.group_size_ = GroupSizeOf(*object);
  described.act_order_ = BoolOr(*object, "desc_act", false);
  if (StringOr(*object, "checkpoint_format", "gptq") == "gptq_v2") {
    described.gptq_layout_ = OutputFormat::kGptqV2;
  }
  described.activations_ = ActivationsOf(*object);
  described.skipped_ = Strings(object->Find("modules_to_not_convert"));
  described.ignored_ = Strings(object->Find("ignore"));
  return described;
}

bool DescribedConfig::SaysPlain(absl::string_view module) const {
  return std::find(ignored_.begin(), ignored_.end(), module) != ignored_.end();
}

WeightFormat DescribedConfig::FormatOf(absl::string_view /*module*/) const {
  WeightFormat format;
  format.symmetric = symmetric_;
  format.group_size = group_size_;
  return format;
}

}  // namespace salient
