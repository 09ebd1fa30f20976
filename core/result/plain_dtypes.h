// Chooses the dtypes of what is not quantized: norms, biases, embeddings, head, kept Linears.
#ifndef SALIENT_CORE_RESULT_PLAIN_DTYPES_H_
#define SALIENT_CORE_RESULT_PLAIN_DTYPES_H_

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/model.h"
#include "core/tensor/dtype.h"

namespace salient {

// The dtypes are F16 or BF16, all of them.
struct PlainDTypes {
  // This is the dtype that config.json says, and that engines compute in.
  DType config = DType::kF16;
  // Tensors that came in F32 get this dtype ...
  DType model = DType::kF16;
  // ... and those that came in the other 16-bit dtype keep theirs, which stands here.
  std::map<std::string, DType, std::less<>> others = {};
  // This is true if no tensor came in 16 bits, so that nothing says what engines should compute in.
  bool came_in_f32 = false;

  DType Of(absl::string_view tensor) const;
};

// Returns the dtypes of the tensors of `source`, which CheckModelTensors passes: what came in F16
// or BF16 stays what it is, and the model is BF16 if any of it is. Engines are to compute in BF16
// if the model is BF16 or its config.json says so, because nobody knows then that F16 has the range
// for it. Looks at headers alone.
PlainDTypes PlainDTypesOf(const TensorSource& source, const Model& model);

// Returns the dtypes while headers are not known, as if every tensor had that of config.json.
PlainDTypes PlainDTypesByConfig(const ModelConfig& config);

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_PLAIN_DTYPES_H_
