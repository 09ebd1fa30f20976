#include "core/engines/stated_quantization.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

// These are the fields that the library of compressed-tensors has of a group, and of the arguments
// in one, that say how weights or activations are quantized. It refuses others.
constexpr absl::string_view kGroupFields[] = {"targets", "weights", "input_activations",
                                              "output_activations", "format"};
constexpr absl::string_view kArguments[] = {
    "num_bits", "type",     "symmetric", "group_size",  "strategy", "block_structure",
    "dynamic",  "actorder", "observer",  "scale_dtype", "zp_dtype", "observer_kwargs"};
constexpr absl::string_view kFieldsOfArguments[] = {"weights", "input_activations",
                                                    "output_activations"};

// Appends the strings of a list and of the lists in it; what is neither is no name of a module.
void AppendStrings(const JsonValue& list, std::vector<std::string>& strings) {
  if (list.AsArray() == nullptr) return;
  for (const JsonValue& item : *list.AsArray()) {
    if (item.AsString() != nullptr && !item.AsString()->empty()) {
      strings.push_back(*item.AsString());
    }
    AppendStrings(item, strings);
  }
}

// Returns the first member whose name is not among `known`, below `path`; empty if there is none.
template <size_t N>
std::string FirstUnknown(const std::string& path, const JsonValue& object,
                         const absl::string_view (&known)[N]) {
  if (object.AsObject() == nullptr) return "";
  for (const auto& [name, value] : *object.AsObject()) {
    if (std::find(std::begin(known), std::end(known), name) == std::end(known)) {
      return absl::StrCat(path, ".", name);
    }
  }
  return "";
}

// Returns whether `actorder` says that the columns of a group are no neighbours.
bool MovesColumns(const JsonValue* actorder) {
  if (actorder == nullptr) return false;
  if (actorder->AsBool() != nullptr) return *actorder->AsBool();
  const std::string* text = actorder->AsString();
  return text != nullptr &&
         (absl::EqualsIgnoreCase(*text, "group") || absl::EqualsIgnoreCase(*text, "dynamic"));
}

}  // namespace

absl::StatusOr<StatedQuantization> StatedQuantization::Parse(const ModelConfig& config,
                                                             absl::string_view json) {
  StatedQuantization described;
  if (!config.quantization.has_value()) return described;
  described.config_ = *config.quantization;
  const absl::StatusOr<JsonValue> document = ParseConfigJson(config.source, json);
  if (!document.ok()) return document.status();
  const JsonValue* object = document->Find("quantization_config");
  if (object == nullptr) return described;
  const JsonValue* skipped = object->Find("modules_to_not_convert");
  if (skipped != nullptr) AppendStrings(*skipped, described.skipped_);
  const JsonValue* version = object->Find("version");
  if (version != nullptr && version->AsString() != nullptr) {
    described.version_ = *version->AsString();
  }
  const std::string& method = described.quant_method();
  const auto old = [object](absl::string_view name, absl::string_view old_name) {
    return object->Find(name) == nullptr && object->Find(old_name) != nullptr;
  };
  described.old_names_ =
      method == "awq" && (old("bits", "w_bit") || old("group_size", "q_group_size"));
  const JsonValue* in_block = object->Find("modules_in_block_to_quantize");
  if (method == "gptq" && in_block != nullptr && in_block->AsArray() != nullptr) {
    AppendStrings(*in_block, described.in_block_.emplace());
  }
  const JsonValue* groups = object->Find("config_groups");
  if (method == "compressed-tensors" && groups != nullptr) described.ReadGroups(*groups);
  return described;
}

void StatedQuantization::ReadGroups(const JsonValue& groups) {
  if (groups.AsObject() == nullptr) return;
  for (const auto& [name, group] : *groups.AsObject()) {
    ++config_groups_;
    const std::string path = absl::StrCat("config_groups.", name);
    if (unknown_in_group_.empty()) unknown_in_group_ = FirstUnknown(path, group, kGroupFields);
    for (const absl::string_view field : kFieldsOfArguments) {
      const JsonValue* arguments = group.Find(field);
      if (arguments != nullptr) ReadArguments(absl::StrCat(path, ".", field), *arguments);
    }
  }
}

void StatedQuantization::ReadArguments(const std::string& path, const JsonValue& arguments) {
  if (unknown_in_arguments_.empty()) {
    unknown_in_arguments_ = FirstUnknown(path, arguments, kArguments);
  }
  if (MovesColumns(arguments.Find("actorder"))) act_order_ = true;
}

bool StatedQuantization::SaysPlain(absl::string_view module) const {
  return !quant_method().empty() && !config_.FormatOf(module).has_value();
}

std::optional<bool> StatedQuantization::InBlockList(absl::string_view module) const {
  if (!in_block_.has_value()) return std::nullopt;
  return std::any_of(in_block_->begin(), in_block_->end(),
                     [module](const std::string& entry) { return absl::EndsWith(module, entry); });
}

StoredFormat StatedQuantization::FormatOf(absl::string_view module) const {
  return config_.FormatOf(module).value_or(StoredFormat{{0, 0, false, DType::kF16}});
}

}  // namespace salient
