#include "core/config/model/config_class.h"

namespace salient {

absl::Span<const ConfigKey> DecoderKeys() {
  static constexpr ConfigKey kKeys[] = {
      {"max_position_embeddings", kIntegerValue},
      {"initializer_range", kFloatValue},
      {"use_cache", kBoolValue},
      {"pad_token_id", kOptionalInteger},
      {"bos_token_id", kOptionalInteger},
      {"eos_token_id", kIntegers},
      {"tie_word_embeddings", kBoolValue},
      {"rope_parameters", kObjectValue | kNullValue},
  };
  return kKeys;
}

}  // namespace salient
