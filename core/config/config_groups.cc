#include "core/config/config_groups.h"

#include "absl/strings/str_cat.h"
#include "core/config/fields.h"
#include "core/config/module_targets.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// Returns whether what would change how a model computes is there in name only, as tools write it.
bool SaysNothing(const JsonValue& value) {
  const JsonValue::Object* object = value.AsObject();
  if (object == nullptr) return value.IsNull();
  if (object->empty()) return true;
  const JsonValue* format = value.Find("format");
  if (format != nullptr && format->AsString() != nullptr) return *format->AsString() == "dense";
  const JsonValue* groups = value.Find("config_groups");
  return groups != nullptr && groups->AsObject() != nullptr && groups->AsObject()->empty();
}

// Members of one object: `unread` takes what the file says well and nothing here reads.
struct Part {
  Part(absl::string_view source, absl::string_view path, const JsonValue& object)
      : fields(source, path, object), unread(source, path, object) {}

  // Records a fault if `field` says something, and what that would be.
  void ExpectNothing(absl::string_view field, absl::string_view says) {
    const JsonValue* value = fields.Value(field);
    if (value != nullptr && !SaysNothing(*value)) {
      unread.Unsupported(field, value->Describe(),
                         absl::StrCat("null: ", says, ", which is not read"));
    }
  }

  void TakeAll(const Part& inner) {
    fields.Take(inner.fields.status());
    unread.Take(inner.unread.status());
  }

  ConfigFields fields;
  ConfigFields unread;
};

void ReadTargets(absl::string_view field, Part& part, ModuleTargets& targets) {
  const JsonValue* value = part.fields.Value(field);
  if (value == nullptr) return;
  const std::string expected = "a list of module names, classes or \"re:\" patterns";
  const JsonValue::Array* list = value->AsArray();
  if (list == nullptr) {
    part.fields.Invalid(field, value->Describe(), expected);
    return;
  }
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string entry = absl::StrCat(field, "[", i, "]");
    const std::string* target = (*list)[i].AsString();
    if (target == nullptr) {
      part.fields.Invalid(entry, (*list)[i].Describe(), "a string");
      return;
    }
    const absl::Status status = targets.Add(*target);
    if (status.ok()) continue;
    (absl::IsUnimplemented(status) ? part.unread : part.fields)
        .Fault(status.code(), entry, QuoteForMessage(*target), ExpectedPattern(status));
    return;
  }
}

// Reads width and kind of numbers, which weights and activations say alike.
int ReadNumbers(Part& part) {
  const int64_t bits = part.fields.Integer("num_bits", 1, 64).value_or(8);
  const std::string type = part.fields.String("type").value_or("int");
  if (type != "int") part.unread.Unsupported("type", QuoteForMessage(type), "\"int\"");
  return static_cast<int>(bits);
}

bool IsDynamic(Part& part) {
  const JsonValue* value = part.fields.Value("dynamic");
  if (value == nullptr || value->AsBool() != nullptr) return value != nullptr && *value->AsBool();
  part.unread.Unsupported("dynamic", value->Describe(), "true or false");
  return false;
}

WeightFormat ReadWeights(Part& part) {
  WeightFormat format;
  format.bits = ReadNumbers(part);
  format.symmetric = part.fields.Bool("symmetric").value_or(true);
  const std::optional<int64_t> size = part.fields.Integer("group_size", -1, kMaxGroupSize);
  std::string strategy = size.has_value() ? (*size > 0 ? "group" : "channel") : "tensor";
  strategy = part.fields.String("strategy").value_or(strategy);
  if (strategy == "group") {
    format.group_size = part.fields.RequiredInteger("group_size", 1, kMaxGroupSize);
  } else if (strategy == "channel") {
    format.group_size = kWholeRow;
  } else if (strategy == "tensor") {
    format.group_size = kWholeTensor;
  } else {
    part.unread.Unsupported("strategy", QuoteForMessage(strategy),
                            "\"group\", \"channel\" or \"tensor\"");
  }
  if (IsDynamic(part)) part.unread.Unsupported("dynamic", "true", "false");
  return format;
}

ActivationFormat ReadActivations(Part& part) {
  const int bits = ReadNumbers(part);
  if (bits != 8) part.unread.Unsupported("num_bits", absl::StrCat(bits), "8");
  if (!part.fields.Bool("symmetric").value_or(true)) {
    part.unread.Unsupported("symmetric", "false", "true");
  }
  const bool dynamic = IsDynamic(part);
  const std::string strategy = part.fields.String("strategy").value_or("tensor");
  const absl::string_view expected = dynamic ? "token" : "tensor";
  if (strategy != expected) {
    part.unread.Unsupported(
        "strategy", QuoteForMessage(strategy),
        absl::StrCat("\"", expected, "\" with dynamic ", dynamic ? "true" : "false"));
  }
  return dynamic ? ActivationFormat::kDynamicToken : ActivationFormat::kStaticTensor;
}

// Refuses what the layout has no place for.
void CheckLayout(const WeightFormat& format, absl::string_view name, Part& weights,
                 StoredFormat& stored) {
  if (name == "pack-quantized") {
    stored.output = OutputFormat::kCompressedTensors;
    if (format.bits != 4 && format.bits != 8) {
      weights.unread.Unsupported("num_bits", absl::StrCat(format.bits),
                                 "4 or 8 with pack-quantized");
    }
    if (format.group_size == kWholeTensor) {
      weights.unread.Unsupported("strategy", "\"tensor\"",
                                 "\"group\" or \"channel\" with pack-quantized");
    }
    return;
  }
  stored.output = OutputFormat::kIntQuantized;
  if (!format.symmetric) {
    weights.unread.Unsupported("symmetric", "false", absl::StrCat("true with ", name));
  }
  if (format.group_size > 0) {
    weights.unread.Unsupported("strategy", "\"group\"",
                               absl::StrCat("\"channel\" or \"tensor\" with ", name));
  }
  if (format.bits > 8) {
    weights.unread.Unsupported("num_bits", absl::StrCat(format.bits),
                               absl::StrCat("at most 8 with ", name));
  }
}

// Returns nullptr if it is not there, and after a fault.
const JsonValue* ObjectIn(Part& part, absl::string_view field) {
  const JsonValue* value = part.fields.Value(field);
  if (value == nullptr || value->AsObject() != nullptr) return value;
  part.fields.Invalid(field, value->Describe(), "an object");
  return nullptr;
}

ModuleRule ReadGroup(absl::string_view source, const std::string& path, const JsonValue& object,
                     const std::optional<std::string>& common, Part& outer) {
  ModuleRule rule;
  Part group(source, absl::StrCat(path, "."), object);
  ReadTargets("targets", group, rule.targets);
  group.ExpectNothing("output_activations", "it quantizes what Linears return");
  const std::optional<std::string> own = group.fields.String("format");
  const std::string name = own.has_value() ? *own : common.value_or("");
  const JsonValue* weights = ObjectIn(group, "weights");
  if (name != "pack-quantized" && name != "int-quantized" && name != "naive-quantized") {
    group.unread.Unsupported("format", name.empty() ? "missing" : QuoteForMessage(name),
                             "\"pack-quantized\", \"int-quantized\" or \"naive-quantized\"");
  } else if (weights == nullptr) {
    group.unread.Unsupported("weights", "missing or null", "how they are quantized");
  } else {
    Part part(source, absl::StrCat(path, ".weights."), *weights);
    StoredFormat stored;
    stored.format = ReadWeights(part);
    CheckLayout(stored.format, name, part, stored);
    group.TakeAll(part);
    if (const JsonValue* input = ObjectIn(group, "input_activations")) {
      Part activations(source, absl::StrCat(path, ".input_activations."), *input);
      stored.activations = ReadActivations(activations);
      group.TakeAll(activations);
    }
    rule.format = stored;
  }
  outer.TakeAll(group);
  return rule;
}

}  // namespace

absl::Status ReadConfigGroups(absl::string_view source, const JsonValue& object,
                              QuantizationConfig& config) {
  Part all(source, kQuantizationConfigPath, object);
  const std::optional<std::string> common = all.fields.String("format");
  config.format = common.value_or("");
  all.ExpectNothing("kv_cache_scheme", "it quantizes the cache of keys and values");
  all.ExpectNothing("sparsity_config", "it leaves out weights that are 0");
  all.ExpectNothing("transform_config", "it rotates weights and activations");
  ReadTargets("ignore", all, config.ignored);
  const JsonValue* groups = all.fields.Value("config_groups");
  if (groups == nullptr || groups->AsObject() == nullptr || groups->AsObject()->empty()) {
    all.fields.Invalid("config_groups", groups == nullptr ? "missing or null" : groups->Describe(),
                       "an object of at least one group");
    return all.fields.status();
  }
  int64_t steps = config.ignored.steps();
  for (const auto& [name, group] : *groups->AsObject()) {
    const std::string field = absl::StrCat("config_groups[", QuoteForMessage(name), "]");
    if (group.AsObject() == nullptr) {
      all.fields.Invalid(field, group.Describe(), "an object");
      return all.fields.status();
    }
    config.rules.push_back(
        ReadGroup(source, absl::StrCat(kQuantizationConfigPath, field), group, common, all));
    steps += config.rules.back().targets.steps();
    if (steps > ModuleTargets::kMaxSteps) {
      all.fields.Invalid(field, "too large with those before it",
                         "patterns that are simpler, or fewer");
      return all.fields.status();
    }
  }
  if (!all.fields.status().ok()) return all.fields.status();
  config.readable.Update(all.unread.status());
  if (const std::optional<StoredFormat>& first = config.rules.front().format; first.has_value()) {
    config.bits = first->format.bits;
    config.group_size = first->format.group_size;
    config.zero_point = !first->format.symmetric;
    config.activations = first->activations;
  }
  return absl::OkStatus();
}

}  // namespace salient
