// Tells what transformers refuses in a config.json that Salient can read, its config classes or its
// models, and how a result's config.json says the same so that they take it.
#ifndef SALIENT_CORE_CONFIG_MODEL_REFUSAL_H_
#define SALIENT_CORE_CONFIG_MODEL_REFUSAL_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/config/json.h"
#include "core/config/model/config_class.h"

namespace salient {

struct ConfigRefusal {
  enum class Mend {
    kNone,
    kLeaveOut,  // Leaving it out gives the value that was read.
    kReplace,
    kAdd,  // It is missing or null now.
  };
  std::string field;
  std::string
      // It is e.g. "use_cache is null; expected true or false, as transformers' Qwen2Config ...".
      text;
  Mend mend = Mend::kNone;
  JsonValue replacement = {};
  // This says that the config class takes it and transformers' model does not, which no other
  // engine builds.
  bool by_model = false;
};

// Returns "<field> is <value>; expected <expected>, or transformers' <class> refuses it".
std::string RefusalText(const ConfigClass& config_class, absl::string_view field,
                        absl::string_view value, absl::string_view expected);

// Returns a sentence on how a result's config.json differs; empty if it says no more than was
// meant.
std::string MendText(const ConfigRefusal& refusal);

// Holds the members of `config` against the types that the class wants.
std::vector<ConfigRefusal> CheckConfigTypes(const ConfigClass& config_class,
                                            const JsonValue& config);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_REFUSAL_H_
