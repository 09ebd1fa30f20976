#include "core/config/quantization_config.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/config/config_groups.h"
#include "core/config/fields.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// Reads an integer that goes by two names; 0 if neither is there.
int64_t ReadEither(ConfigFields& fields, absl::string_view name, absl::string_view other,
                   int64_t least, int64_t most) {
  const std::optional<int64_t> value = fields.Integer(name, least, most);
  const std::optional<int64_t> again = fields.Integer(other, least, most);
  if (value.has_value() && again.has_value() && *value != *again) {
    fields.Invalid(other, absl::StrCat(*again), absl::StrCat("what ", name, " says, ", *value));
  }
  return value.value_or(again.value_or(0));
}

// `unread` takes what the file says well and nothing here reads.
void ReadAwq(ConfigFields& fields, ConfigFields& unread, QuantizationConfig& config) {
  config.bits = ReadEither(fields, "bits", "w_bit", 1, 64);
  config.group_size = ReadEither(fields, "group_size", "q_group_size", -1, kMaxGroupSize);
  config.zero_point = fields.Bool("zero_point").value_or(true);
  config.version = absl::AsciiStrToLower(fields.String("version").value_or(""));
  if (config.version != "gemm" && !config.version.empty()) {
    unread.Unsupported("version", QuoteForMessage(config.version), "\"gemm\"");
  }
  if (config.bits != 4 && config.bits != 0) {
    unread.Unsupported("bits", absl::StrCat(config.bits), "4, the only width of awq's gemm layout");
  }
}

// Reads what a Linear is stored in by gptq's fields of it, those that are absent as `otherwise`.
StoredFormat ReadGptqFormat(ConfigFields& fields, ConfigFields& unread, StoredFormat otherwise) {
  StoredFormat stored = otherwise;
  if (const auto bits = fields.Integer("bits", 1, 64)) stored.format.bits = static_cast<int>(*bits);
  const int bits = stored.format.bits;
  if (bits != 3 && bits != 4 && bits != 8) {
    unread.Unsupported("bits", absl::StrCat(bits), "3, 4 or 8");
  }
  if (const auto size = fields.Integer("group_size", -1, kMaxGroupSize)) {
    stored.format.group_size = *size;
  }
  if (const auto symmetric = fields.Bool("sym")) stored.format.symmetric = *symmetric;
  return stored;
}

// "dynamic" of gptq: an object of regular expressions, the first that matches counts. "-:" before
// one keeps its modules, "+:" or nothing changes some of the fields for them.
void ReadDynamic(absl::string_view source, const StoredFormat& base, ConfigFields& fields,
                 ConfigFields& unread, QuantizationConfig& config) {
  const JsonValue* dynamic = fields.Value("dynamic");
  if (dynamic == nullptr) return;
  if (dynamic->AsObject() == nullptr) {
    fields.Invalid("dynamic", dynamic->Describe(), "an object");
    return;
  }
  int64_t steps = 0;
  for (const auto& [key, value] : *dynamic->AsObject()) {
    const std::string field = absl::StrCat("dynamic[", QuoteForMessage(key), "]");
    absl::string_view pattern = key;
    const bool kept = absl::ConsumePrefix(&pattern, "-:");
    if (!kept) absl::ConsumePrefix(&pattern, "+:");
    ModuleRule rule;
    if (const absl::Status status = rule.targets.AddPattern(pattern); !status.ok()) {
      (absl::IsUnimplemented(status) ? unread : fields)
          .Fault(status.code(), "dynamic", QuoteForMessage(key), ExpectedPattern(status));
      return;
    }
    steps += rule.targets.steps();
    if (steps > ModuleTargets::kMaxSteps) {
      fields.Invalid("dynamic", absl::StrCat("too large at ", QuoteForMessage(key)),
                     "patterns that are simpler, or fewer");
      return;
    }
    if (!kept) {
      if (value.AsObject() == nullptr) {
        fields.Invalid(field, value.Describe(), "an object");
        return;
      }
      ConfigFields inner(source, absl::StrCat(kQuantizationConfigPath, field, "."), value);
      ConfigFields inner_unread = inner;
      rule.format = ReadGptqFormat(inner, inner_unread, base);
      fields.Take(inner.status());
      unread.Take(inner_unread.status());
    }
    config.rules.push_back(std::move(rule));
  }
}

void ReadGptq(absl::string_view source, ConfigFields& fields, ConfigFields& unread,
              QuantizationConfig& config) {
  fields.RequiredInteger("bits", 1, 64);
  StoredFormat base;
  base.format.group_size = 0;
  base.format.symmetric = true;
  base = ReadGptqFormat(fields, unread, base);
  config.bits = base.format.bits;
  config.group_size = base.format.group_size;
  config.zero_point = !base.format.symmetric;
  config.desc_act = fields.Bool("desc_act").value_or(false);
  const bool named = fields.Value("checkpoint_format") != nullptr;
  const absl::string_view field = named ? "checkpoint_format" : "format";
  config.format = absl::AsciiStrToLower(fields.String(field).value_or("gptq"));
  if (config.format != "gptq" && config.format != "gptq_v2") {
    unread.Unsupported(field, QuoteForMessage(config.format), "\"gptq\" or \"gptq_v2\"");
  }
  if (fields.Bool("is_marlin_format").value_or(false)) {
    unread.Unsupported("is_marlin_format", "true", "false");
  }
  const std::string words = fields.String("pack_dtype").value_or("int32");
  if (words != "int32") unread.Unsupported("pack_dtype", QuoteForMessage(words), "\"int32\"");
  base.output = config.format == "gptq_v2" ? OutputFormat::kGptqV2 : OutputFormat::kGptq;
  ReadDynamic(source, base, fields, unread, config);
}

}  // namespace

std::optional<StoredFormat> QuantizationConfig::FormatOf(absl::string_view module) const {
  if (ignored.MatchOf(module) != ModuleTargets::Match::kNone) return std::nullopt;
  const ModuleRule* found = nullptr;
  auto best = ModuleTargets::Match::kNone;
  for (const ModuleRule& rule : rules) {
    const auto match = rule.targets.MatchOf(module);
    if (match <= best) continue;
    best = match;
    found = &rule;
  }
  if (found != nullptr) return found->format;
  if (quant_method == "compressed-tensors") return std::nullopt;
  StoredFormat stored;
  stored.format.bits = static_cast<int>(bits);
  stored.format.group_size = group_size;
  stored.format.symmetric = !zero_point;
  if (quant_method == "gptq") {
    stored.output = format == "gptq_v2" ? OutputFormat::kGptqV2 : OutputFormat::kGptq;
  }
  return stored;
}

absl::StatusOr<QuantizationConfig> ParseQuantizationConfig(absl::string_view source,
                                                           const JsonValue& object) {
  ConfigFields fields(source, kQuantizationConfigPath, object);
  ConfigFields unread = fields;
  QuantizationConfig config;
  config.quant_method = fields.String("quant_method").value_or("");
  if (config.quant_method.empty()) {
    fields.Invalid("quant_method", fields.Value("quant_method") == nullptr ? "missing" : "\"\"",
                   "the name of a method, such as \"awq\"");
  } else if (config.quant_method == "awq") {
    ReadAwq(fields, unread, config);
  } else if (config.quant_method == "gptq") {
    ReadGptq(source, fields, unread, config);
  } else if (config.quant_method == "compressed-tensors") {
    fields.Take(ReadConfigGroups(source, object, config));
  } else {
    unread.Unsupported("quant_method", QuoteForMessage(config.quant_method),
                       "\"awq\", \"gptq\" or \"compressed-tensors\"");
  }
  if (!fields.status().ok()) return fields.status();
  config.readable.Update(unread.status());
  return config;
}

}  // namespace salient
