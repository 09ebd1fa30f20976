// Names tensors that a result lacks because nothing of the model names them.
#ifndef SALIENT_CORE_RESULT_LEFT_OUT_TENSORS_H_
#define SALIENT_CORE_RESULT_LEFT_OUT_TENSORS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/config/json.h"
#include "core/model/model.h"

namespace salient {

// Says in sentences which of the tensors called `names` a result lacks: biases that the config does
// not announce in one, all others (layers beyond the last, prediction of several tokens ...) in
// another, each with their number and the first names. None of what every engine computes from the
// config, and none of a tied head. `config_json` is the text that the model's config was parsed
// from.
//
// transformers leaves out the same, and says so; vLLM takes biases of attention by keys that
// transformers does not read, and then a sentence says that the two differ.
std::vector<std::string> LeftOutTensors(absl::Span<const std::string> names, const Model& model,
                                        absl::string_view config_json);

// Takes from the object that the model's config was parsed from what promises tensors that no
// result has.
void WithdrawLeftOut(const Model& model, JsonValue::Object& object);

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_LEFT_OUT_TENSORS_H_
