#include "core/config/model/rope_object.h"

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/config/fields.h"
#include "core/text/quote.h"

namespace salient {
namespace {

constexpr double kMaxFactor = 1e6;
constexpr char kSupported[] =
    "\"default\", \"linear\", \"dynamic\", \"yarn\", \"llama3\" or \"longrope\"";

class RopeObject {
 public:
  RopeObject(absl::string_view source, absl::string_view field, const JsonValue& object,
             const ConfigClass& config_class, const RopeSurroundings& around)
      : prefix_(absl::StrCat(source, ": ", field)),
        object_(object),
        config_class_(config_class),
        around_(around),
        fields_(source, absl::StrCat(field, "."), object) {}

  absl::StatusOr<RopeConfig> Read() {
    if (absl::Status status = CheckMembers(); !status.ok()) return status;
    rope_.theta = fields_.Number("rope_theta", 1, kMaxRopeTheta).value_or(around_.theta);
    rope_.head_dim = around_.head_dim;
    rope_.positions = around_.max_position_embeddings;
    ReadPartial();
    const std::string type = ReadType();
    if (!fields_.status().ok()) return fields_.status();
    if (type == "linear" || type == "dynamic") {
      rope_.type = type == "linear" ? RopeConfig::Type::kLinear : RopeConfig::Type::kDynamic;
      rope_.factor = fields_.RequiredNumber("factor", 1e-6, kMaxFactor);
      if (rope_.factor == 1) rope_.type = RopeConfig::Type::kDefault;
      if (rope_.type == RopeConfig::Type::kDynamic && rope_.RotaryDim() < 4) {
        fields_.Invalid("rope_type", "\"dynamic\"",
                        absl::StrCat("another one for heads of which ", rope_.RotaryDim(),
                                     " channels turn: it divides by so many less 2"));
      }
    } else if (type == "yarn") {
      ReadYarn();
    } else if (type == "llama3") {
      ReadLlama3();
    } else if (type == "longrope") {
      ReadLongRope();
    } else if (type != "default") {
      fields_.Unsupported("rope_type", QuoteForMessage(type), kSupported);
    }
    ReadQueryBeta();
    if (!fields_.status().ok()) return fields_.status();
    return rope_;
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

  void ReadPartial() {
    rope_.partial = fields_.Number("partial_rotary_factor", 0, 1).value_or(around_.partial);
    if (rope_.partial == 1) return;
    if (!config_class_.partial_rotary) {
      fields_.Unsupported("partial_rotary_factor", absl::StrCat(rope_.partial),
                          absl::StrCat("1, as all heads of ", config_class_.name, " turn whole"));
    } else if (rope_.RotaryDim() < 2 || rope_.RotaryDim() % 2 != 0) {
      fields_.Invalid("partial_rotary_factor", absl::StrCat(rope_.partial),
                      absl::StrCat("one that makes an even number of head_dim, ", rope_.head_dim));
    }
  }

  std::string ReadType() {
    std::string type =
        fields_.String(fields_.Has("rope_type") ? "rope_type" : "type").value_or("default");
    // Old names of Phi-3 are "su" and "yarn", which is none.
    const bool old_name = type == "su" || type == "yarn";
    if (config_class_.original_max_position_embeddings.has_value() && old_name) return "longrope";
    return type;
  }

  int64_t Original() {
    const int64_t inside = fields_.Has(kOriginalPositions)
                               ? fields_.RequiredInteger(kOriginalPositions, 1, kMaxPositions)
                               : around_.max_position_embeddings;
    return around_.original_max_position_embeddings.value_or(inside);
  }

  // Returns factor, or what positions and original positions make of it where it is null or left
  // out.
  double FactorOfPositions() {
    const double ratio = static_cast<double>(around_.max_position_embeddings) /
                         static_cast<double>(rope_.original_positions);
    return fields_.Number("factor", 1e-6, kMaxFactor).value_or(ratio);
  }

  void ReadYarn() {
    rope_.type = RopeConfig::Type::kYarn;
    if (rope_.theta == 1) {
      fields_.Invalid("rope_theta", "1", "more than 1 with yarn, which divides by its logarithm");
    }
    rope_.original_positions = Original();
    rope_.factor = FactorOfPositions();
    YarnRopeScaling yarn;
    // A 0 stands for what is left out.
    const auto or_else = [](std::optional<double> value, double otherwise) {
      return value.value_or(0) == 0 ? otherwise : *value;
    };
    yarn.beta_fast = or_else(fields_.Number("beta_fast", 0, kMaxFactor), yarn.beta_fast);
    yarn.beta_slow = or_else(fields_.Number("beta_slow", 0, kMaxFactor), yarn.beta_slow);
    yarn.truncate = fields_.Bool("truncate").value_or(true) || !around_.truncate;
    rope_.yarn = yarn;
    const auto scale_of = [&](double mscale) {
      return rope_.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(rope_.factor) + 1;
    };
    const double mscale = fields_.Number("mscale", 0, kMaxFactor).value_or(0);
    const double all_dim = fields_.Number("mscale_all_dim", 0, kMaxFactor).value_or(0);
    const bool both = mscale != 0 && all_dim != 0;
    rope_.attention_factor =
        fields_.Number("attention_factor", 0, kMaxFactor)
            .value_or(both ? scale_of(mscale) / scale_of(all_dim) : scale_of(1));
  }

  void ReadLlama3() {
    rope_.type = RopeConfig::Type::kLlama3;
    Llama3RopeScaling scaling;
    scaling.factor = fields_.RequiredNumber("factor", 1, kMaxFactor);
    scaling.low_freq_factor = fields_.RequiredNumber("low_freq_factor", 1e-6, kMaxFactor);
    scaling.high_freq_factor = fields_.RequiredNumber("high_freq_factor", 1e-6, kMaxFactor);
    scaling.original_max_position_embeddings = Original();
    rope_.original_positions = scaling.original_max_position_embeddings;
    if (scaling.high_freq_factor <= scaling.low_freq_factor) {
      fields_.Invalid("high_freq_factor", absl::StrCat(scaling.high_freq_factor),
                      absl::StrCat("more than low_freq_factor, ", scaling.low_freq_factor));
    }
    rope_.llama3 = scaling;
  }

  void ReadLongRope() {
    rope_.type = RopeConfig::Type::kLongRope;
    rope_.original_positions = Original();
    if (rope_.original_positions == 1) {
      fields_.Invalid(kOriginalPositions, "1",
                      "more than 1 with longrope, which divides by its logarithm");
    }
    rope_.short_factors = Factors("short_factor");
    rope_.long_factors = Factors("long_factor");
    const double factor = FactorOfPositions();
    const double grown =
        factor <= 1 ? 1.0
                    : std::sqrt(1 + std::log(factor) /
                                        std::log(static_cast<double>(rope_.original_positions)));
    rope_.attention_factor = fields_.Number("attention_factor", 0, kMaxFactor).value_or(grown);
  }

  std::vector<double> Factors(absl::string_view field) {
    const auto pairs = static_cast<size_t>(rope_.RotaryDim() / 2);
    const std::string expected = absl::StrCat("a list of ", pairs, " numbers above 0");
    const JsonValue* value = fields_.Value(field);
    const JsonValue::Array* list = value != nullptr ? value->AsArray() : nullptr;
    std::vector<double> factors;
    for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
      const std::optional<double> number = (*list)[i].AsDouble();
      if (!number.has_value() || !(*number > 0)) break;
      factors.push_back(*number);
    }
    if (list == nullptr || factors.size() != list->size() || factors.size() != pairs) {
      fields_.Invalid(field, value == nullptr ? "missing" : value->Describe(), expected);
      factors.assign(pairs, 1);
    }
    return factors;
  }

  void ReadQueryBeta() {
    rope_.query_beta = fields_.Number("llama_4_scaling_beta", 0, kMaxFactor).value_or(0);
    if (rope_.query_beta == 0) return;
    if (!config_class_.query_scaling) {
      fields_.Unsupported("llama_4_scaling_beta", absl::StrCat(rope_.query_beta),
                          absl::StrCat("nothing, which is what ", config_class_.name, " reads"));
    } else if (rope_.original_positions == 0) {
      rope_.original_positions = Original();
    }
  }

  const std::string prefix_;
  const JsonValue& object_;
  const ConfigClass& config_class_;
  const RopeSurroundings& around_;
  ConfigFields fields_;
  RopeConfig rope_;
};

}  // namespace

absl::StatusOr<RopeConfig> ReadRopeObject(absl::string_view source, absl::string_view field,
                                          const JsonValue& object, const ConfigClass& config_class,
                                          const RopeSurroundings& around) {
  return RopeObject(source, field, object, config_class, around).Read();
}

}  // namespace salient
