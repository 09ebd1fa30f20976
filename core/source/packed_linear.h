// Reads the packed tensors of one Linear in a checkpoint, whatever their layout: which there are,
// whether they fit, what they decode to.
#ifndef SALIENT_CORE_SOURCE_PACKED_LINEAR_H_
#define SALIENT_CORE_SOURCE_PACKED_LINEAR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/pack/awq_gemm.h"
#include "core/pack/compressed_tensors.h"
#include "core/pack/gptq.h"
#include "core/pack/int_quantized.h"
#include "core/source/decoded_source.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"

namespace salient {

class PackedLinear {
 public:
  // The tensors of `module` by their headers alone, held against its shape and what the config says
  // of it. nullopt: there are none, it was kept. `config.quantization` must be set and readable.
  //
  // Returns INVALID_ARGUMENT naming file, tensor, dtype or shape and what was expected: for a
  // tensor that is missing beside the others or does not fit, for a plain weight beside packed
  // ones, for packed tensors of a module that the config keeps. Returns UNIMPLEMENTED for a width
  // that is not read.
  static absl::StatusOr<std::optional<PackedLinear>> Find(const TensorSource& source,
                                                          const ModelConfig& config,
                                                          const std::string& module,
                                                          const LinearShape& shape);

  // Returns the file that holds its tensors, or the name of the source if they lie in several. It
  // is valid while the source lives.
  absl::string_view file() const { return file_; }
  const StoredFormat& format() const { return format_; }

  // Reads the tensors and decodes rows [first, first + count). Returns INVALID_ARGUMENT naming the
  // tensor for content that cannot be; errors of the source.
  absl::Status Decode(const TensorSource& source, int64_t first, int64_t count, RowSink out) const;

  // Returns what an engine does to its input. Reads the scale of static activations:
  // INVALID_ARGUMENT naming the tensor and its value if that is no number above 0; errors of the
  // source.
  absl::StatusOr<InputRounding> ReadInputRounding(const TensorSource& source) const;

 private:
  using Tensors = std::variant<AwqGemmTensors, GptqTensors, CompressedTensors, IntQuantizedTensors>;

  static Tensors TensorsOf(OutputFormat output);
  absl::Status CheckInputScale() const;

  absl::string_view file_;
  StoredFormat format_;
  LinearShape shape_;
  Tensors tensors_;          // They are without data.
  NamedTensor input_scale_;  // It has no name if there is none.
};

}  // namespace salient

#endif  // SALIENT_CORE_SOURCE_PACKED_LINEAR_H_
