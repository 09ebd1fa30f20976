#include "core/config/model/rope.h"

#include <list>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/config/model/rope_object.h"

namespace salient {
namespace {

constexpr char kGlobalLayers[] = "full_attention";
constexpr char kLocalLayers[] = "sliding_attention";

// Holds the object that rotary parameters stand in, and its name.
struct NamedObject {
  absl::string_view name;
  const JsonValue* object = nullptr;
};

// Returns rope_scaling before rope_parameters, nothing for what is missing, null or empty.
NamedObject FindObject(ConfigFields& fields) {
  NamedObject found;
  for (const absl::string_view field : {"rope_parameters", "rope_scaling"}) {
    const JsonValue* value = fields.Value(field);
    if (value == nullptr) continue;
    if (value->AsObject() == nullptr) fields.Invalid(field, value->Describe(), "an object");
    if (value->AsObject() == nullptr || value->AsObject()->empty()) continue;
    found = {field, value};
  }
  return found;
}

class RopeReader {
 public:
  RopeReader(absl::string_view source, const ConfigClass& config_class,
             const RopeSurroundings& around)
      : source_(source), config_class_(config_class), around_(around) {}

  // Reads the object that is shared by all layers, or has one inside for each kind of layer.
  absl::StatusOr<RopeConfigs> Read(const NamedObject& object, double local_theta) {
    RopeConfigs ropes;
    if (!config_class_.local_rope_theta.has_value()) {
      auto rope = ReadOne(object, around_.theta);
      if (!rope.ok()) return rope.status();
      ropes.global = *std::move(rope);
      return ropes;
    }
    const bool nested = object.object != nullptr && (Inside(object, kGlobalLayers) != nullptr ||
                                                     Inside(object, kLocalLayers) != nullptr);
    if (object.name == "rope_parameters" && !nested) {
      return absl::UnimplementedError(absl::StrCat(
          source_, ": rope_parameters is for all layers alike; expected objects for \"",
          kGlobalLayers, "\" and \"", kLocalLayers, "\", without which transformers' ",
          config_class_.name, " does not read it"));
    }
    // What rope_scaling says is meant for layers that see everything.
    auto global = ReadOne(nested ? Part(object, kGlobalLayers) : object, around_.theta);
    if (!global.ok()) return global.status();
    auto local = ReadOne(nested ? Part(object, kLocalLayers) : NamedObject{}, local_theta);
    if (!local.ok()) return local.status();
    ropes.global = *std::move(global);
    ropes.local = *std::move(local);
    return ropes;
  }

 private:
  static const JsonValue* Inside(const NamedObject& object, absl::string_view layers) {
    const JsonValue* part = object.object->Find(layers);
    return part != nullptr && part->AsObject() != nullptr ? part : nullptr;
  }

  NamedObject Part(const NamedObject& object, absl::string_view layers) {
    const JsonValue* part = Inside(object, layers);
    if (part == nullptr) return {};
    names_.push_back(absl::StrCat(object.name, ".", layers));
    return {names_.back(), part};
  }

  absl::StatusOr<RopeConfig> ReadOne(const NamedObject& object, double theta) {
    static const JsonValue* const empty = new JsonValue(JsonValue::Object{});
    RopeSurroundings around = around_;
    around.theta = theta;
    around.truncate = object.name.find('.') == absl::string_view::npos;
    return ReadRopeObject(source_, object.object == nullptr ? "rope_parameters" : object.name,
                          object.object == nullptr ? *empty : *object.object, config_class_,
                          around);
  }

  absl::string_view source_;
  const ConfigClass& config_class_;
  RopeSurroundings around_;
  std::list<std::string> names_;
};

}  // namespace

absl::StatusOr<RopeConfigs> ReadRopes(absl::string_view source, const ConfigClass& config_class,
                                      int64_t max_position_embeddings, int64_t head_dim,
                                      ConfigFields& fields, std::vector<ConfigRefusal>& refusals) {
  RopeSurroundings around;
  around.head_dim = head_dim;
  around.max_position_embeddings = max_position_embeddings;
  around.partial = fields.Number("partial_rotary_factor", 0, 1).value_or(1);
  if (around.partial != 1 && !config_class.partial_rotary) {
    fields.Unsupported("partial_rotary_factor", absl::StrCat(around.partial),
                       absl::StrCat("1, as all heads of ", config_class.name, " turn whole"));
  }
  around.theta = fields.Number("rope_theta", 1, kMaxRopeTheta).value_or(config_class.rope_theta);
  const NamedObject object = FindObject(fields);
  around.original_max_position_embeddings = fields.Integer(kOriginalPositions, 1, kMaxPositions);
  if (!around.original_max_position_embeddings.has_value()) {
    around.original_max_position_embeddings = config_class.original_max_position_embeddings;
  }
  double local_theta = config_class.local_rope_theta.value_or(0);
  if (config_class.local_rope_theta.has_value()) {
    local_theta =
        fields.Number(config_class.local_theta_field, 1, kMaxRopeTheta).value_or(local_theta);
  }
  if (!fields.status().ok()) return fields.status();
  const bool theta_inside =
      object.object != nullptr && object.object->Find("rope_theta") != nullptr;
  if (fields.IsNull("rope_theta") && !theta_inside) {
    refusals.push_back({"rope_theta", RefusalText(config_class, "rope_theta", "null", "a number"),
                        ConfigRefusal::Mend::kLeaveOut});
  }
  absl::StatusOr<RopeConfigs> ropes =
      RopeReader(source, config_class, around).Read(object, local_theta);
  if (ropes.ok() && ropes->global.original_positions != 0 && fields.IsNull(kOriginalPositions)) {
    fields.Invalid(kOriginalPositions, "null", "an integer, or nothing");
    return fields.status();
  }
  return ropes;
}

}  // namespace salient
