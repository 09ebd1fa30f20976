#include "core/config/model/windows.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/config/model/rope.h"

namespace salient {
namespace {

// Returns for each layer whether layer_types gives it a window; nullopt if there is no such list,
// and after a fault.
std::optional<std::vector<bool>> ReadLayerTypes(const ConfigClass& config_class, int64_t layers,
                                                ConfigFields& fields,
                                                std::vector<ConfigRefusal>& refusals) {
  const JsonValue* value = fields.Value("layer_types");
  if (value == nullptr) return std::nullopt;
  const JsonValue::Array* list = value->AsArray();
  if (list == nullptr) {
    fields.Invalid("layer_types", value->Describe(), "a list of strings");
    return std::nullopt;
  }
  std::vector<bool> windows;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string* type = (*list)[i].AsString();
    const bool window = type != nullptr && *type == "sliding_attention";
    // The second is an old name of the first.
    const bool full = type != nullptr && (*type == "full_attention" || *type == "attention");
    if (!window && !full) {
      fields.Unsupported(absl::StrCat("layer_types[", i, "]"), (*list)[i].Describe(),
                         "\"full_attention\" or \"sliding_attention\"");
    }
    windows.push_back(window);
  }
  const auto entries = static_cast<int64_t>(windows.size());
  if (entries != layers) {
    ConfigRefusal refusal{
        "layer_types",
        RefusalText(config_class, "layer_types", absl::StrCat("a list of ", entries),
                    absl::StrCat("as many entries as num_hidden_layers says, ", layers))};
    if (entries > layers) {
      refusal.mend = ConfigRefusal::Mend::kReplace;
      refusal.replacement = JsonValue(
          JsonValue::Array(list->begin(), list->begin() + static_cast<ptrdiff_t>(layers)));
    }
    refusals.push_back(std::move(refusal));
  }
  windows.resize(static_cast<size_t>(layers));
  return windows;
}

// Returns the window of those layers that have one.
std::optional<int64_t> ReadSize(const ConfigClass& config_class, ConfigFields& fields) {
  if (fields.IsNull("sliding_window")) return std::nullopt;
  const std::optional<int64_t> said = fields.Integer("sliding_window", 1, kMaxPositions);
  return said.has_value() ? said : config_class.sliding_window;
}

}  // namespace

SlidingWindows ReadWindows(const ConfigClass& config_class, int64_t layers, int64_t head_dim,
                           ConfigFields& fields, std::vector<ConfigRefusal>& refusals) {
  std::optional<std::vector<bool>> types = ReadLayerTypes(config_class, layers, fields, refusals);
  std::optional<int64_t> window;
  switch (config_class.windows) {
    case WindowRule::kNoLayer: {
      // The model does not look at windows, but transformers' cache does.
      const JsonValue* size = fields.Value("sliding_window");
      if (size != nullptr && !size->AsInt64().has_value()) {
        fields.Invalid("sliding_window", size->Describe(), "an integer, or nothing");
      }
      if (size != nullptr) return {};
      break;
    }
    case WindowRule::kEveryLayer:
      window = ReadSize(config_class, fields);
      if (fields.Has("layer_types") && fields.Value("head_dim") == nullptr) {
        // With layer_types transformers takes another class, which does not work out head_dim.
        refusals.push_back({"head_dim",
                            RefusalText(config_class, "head_dim beside layer_types",
                                        "missing or null", absl::StrCat(head_dim)),
                            ConfigRefusal::Mend::kAdd, JsonValue(head_dim)});
      }
      if (!types.has_value()) return {window, {}};
      break;
    case WindowRule::kByLayer: {
      if (fields.Bool("use_sliding_window").value_or(false)) {
        window = ReadSize(config_class, fields);
      }
      if (types.has_value()) break;
      const int64_t first = fields.Integer("max_window_layers", -kMaxPositions, kMaxPositions)
                                .value_or(config_class.max_window_layers);
      types.emplace();
      for (int64_t i = 0; i < layers; ++i) types->push_back(window.has_value() && i >= first);
      break;
    }
    case WindowRule::kByPattern: {
      window = ReadSize(config_class, fields);
      int64_t pattern = config_class.window_pattern;
      if (const absl::string_view field = config_class.window_pattern_field; !field.empty()) {
        pattern = fields.Integer(field, 1, kMaxPositions).value_or(pattern);
      }
      if (types.has_value()) break;
      types.emplace();
      for (int64_t i = 0; i < layers; ++i) types->push_back((i + 1) % pattern != 0);
      break;
    }
  }
  int64_t windowed = 0;
  for (const bool has_window : types.value_or(std::vector<bool>())) windowed += has_window ? 1 : 0;
  if (windowed == 0) return {};
  if (!window.has_value()) {
    refusals.push_back({"layer_types", RefusalText(config_class, "layer_types",
                                                   absl::StrCat("sliding_attention in ", windowed,
                                                                " layers without a window"),
                                                   "full_attention")});
    return {};
  }
  if (windowed == layers) return {window, {}};
  return {window, *std::move(types)};
}

}  // namespace salient
