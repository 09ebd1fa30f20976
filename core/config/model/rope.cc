#include "core/config/model/rope.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/text/quote.h"

namespace salient {
namespace {

constexpr double kMaxRopeTheta = 1e15;
constexpr absl::string_view kSupported = "\"default\" or \"llama3\", others are not supported yet";

void CheckPartialRotary(ConfigFields& fields) {
  const std::optional<double> factor = fields.Number("partial_rotary_factor", 0, 1);
  if (factor.value_or(1) == 1) return;
  fields.Unsupported("partial_rotary_factor", absl::StrCat(*factor), "1");
}

absl::StatusOr<Llama3RopeScaling> ReadLlama3(std::optional<int64_t> outside,
                                             int64_t max_position_embeddings,
                                             ConfigFields& fields) {
  Llama3RopeScaling scaling;
  scaling.factor = fields.RequiredNumber("factor", 1, 1e6);
  scaling.low_freq_factor = fields.RequiredNumber("low_freq_factor", 1e-6, 1e6);
  scaling.high_freq_factor = fields.RequiredNumber("high_freq_factor", 1e-6, 1e6);
  constexpr absl::string_view kOriginal = "original_max_position_embeddings";
  scaling.original_max_position_embeddings =
      fields.Has(kOriginal) ? fields.RequiredInteger(kOriginal, 1, kMaxPositions)
                            : max_position_embeddings;
  if (outside.has_value()) scaling.original_max_position_embeddings = *outside;
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    fields.Invalid("high_freq_factor", absl::StrCat(scaling.high_freq_factor),
                   absl::StrCat("more than low_freq_factor, ", scaling.low_freq_factor));
  }
  if (!fields.status().ok()) return fields.status();
  return scaling;
}

// Reads the object under rope_scaling or rope_parameters into `rope`.
class RopeObject {
 public:
  RopeObject(absl::string_view source, absl::string_view field, const JsonValue& object)
      : prefix_(absl::StrCat(source, ": ", field)),
        object_(object),
        fields_(source, absl::StrCat(field, "."), object) {}

  absl::StatusOr<RopeConfig> Read(double theta, std::optional<int64_t> outside,
                                  int64_t max_position_embeddings) {
    RopeConfig rope{theta, std::nullopt};
    if (absl::Status status = CheckMembers(); !status.ok()) return status;
    rope.theta = fields_.Number("rope_theta", 1, kMaxRopeTheta).value_or(theta);
    const std::string type =
        fields_.String(fields_.Has("rope_type") ? "rope_type" : "type").value_or("default");
    CheckPartialRotary(fields_);
    if (!fields_.status().ok()) return fields_.status();
    if (type == "default") return rope;
    if (type == "linear") {
      const double factor = fields_.RequiredNumber("factor", 0, 1e6);
      if (factor != 1) {
        fields_.Unsupported("rope_type", "\"linear\"",
                            absl::StrCat(kSupported, ", nor is linear with a factor but 1"));
      }
      if (!fields_.status().ok()) return fields_.status();
      return rope;
    }
    if (type != "llama3") {
      fields_.Unsupported("rope_type", QuoteForMessage(type), kSupported);
      return fields_.status();
    }
    const auto llama3 = ReadLlama3(outside, max_position_embeddings, fields_);
    if (!llama3.ok()) return llama3.status();
    rope.llama3 = *llama3;
    return rope;
  }

 private:
  absl::Status CheckMembers() {
    for (const JsonValue::Member& member : *object_.AsObject()) {
      if (member.second.AsObject() == nullptr) continue;
      return absl::UnimplementedError(
          absl::StrCat(prefix_, "[", QuoteForMessage(member.first),
                       "] is an object; expected one rotary embedding for all layers"));
    }
    for (const absl::string_view field : {"rope_theta", "rope_type", "type"}) {
      if (!fields_.IsNull(field)) continue;
      fields_.Invalid(field, "null", "a value, or nothing");
    }
    return fields_.status();
  }

  const std::string prefix_;
  const JsonValue& object_;
  ConfigFields fields_;
};

}  // namespace

absl::StatusOr<RopeConfig> ReadRope(absl::string_view source, const ConfigClass& config_class,
                                    int64_t max_position_embeddings, ConfigFields& fields,
                                    std::vector<ConfigRefusal>& refusals) {
  constexpr absl::string_view kOriginal = "original_max_position_embeddings";
  CheckPartialRotary(fields);
  const double theta =
      fields.Number("rope_theta", 1, kMaxRopeTheta).value_or(config_class.rope_theta);
  absl::string_view name;
  const JsonValue* object = nullptr;
  for (const absl::string_view field : {"rope_parameters", "rope_scaling"}) {
    const JsonValue* value = fields.Value(field);
    if (value == nullptr) continue;
    if (value->AsObject() == nullptr) fields.Invalid(field, value->Describe(), "an object");
    if (value->AsObject() == nullptr || value->AsObject()->empty()) continue;
    name = field;
    object = value;
  }
  const std::optional<int64_t> outside = fields.Integer(kOriginal, 1, kMaxPositions);
  if (!fields.status().ok()) return fields.status();
  if (fields.IsNull("rope_theta") && (object == nullptr || object->Find("rope_theta") == nullptr)) {
    refusals.push_back({"rope_theta", RefusalText(config_class, "rope_theta", "null", "a number"),
                        ConfigRefusal::Mend::kLeaveOut});
  }
  if (object == nullptr) return RopeConfig{theta, std::nullopt};
  absl::StatusOr<RopeConfig> rope =
      RopeObject(source, name, *object).Read(theta, outside, max_position_embeddings);
  if (rope.ok() && rope->llama3.has_value() && fields.IsNull(kOriginal)) {
    fields.Invalid(kOriginal, "null", "an integer, or nothing");
    return fields.status();
  }
  return rope;
}

}  // namespace salient
