// Says how a result is stored: its weights' format, the layout of its tensors, and what an engine
// does to the activations that its Linears read.
#ifndef SALIENT_CORE_TENSOR_STORED_FORMAT_H_
#define SALIENT_CORE_TENSOR_STORED_FORMAT_H_

#include "core/tensor/affine_groups.h"

namespace salient {

enum class OutputFormat {
  kAwqGemm,  // It has 4 bits: qweight, qzeros, scales.
  kGptq,     // It has 3, 4 or 8 bits, symmetric: qweight, qzeros (minus one), scales, g_idx.
  kGptqV2,   // It has 3, 4 or 8 bits: the same with zero points as they are.
  kCompressedTensors,  // It is "pack-quantized", 4 and 8 bits.
  kIntQuantized,       // It is "int-quantized", 8 bit weights and activations.
  kScaledFp16,         // s is folded in and nothing is quantized: weight.
  // It has 2 to 8 bits, decoded again to F16: weight. Losses are those before that.
  kDequantizedFp16,
};

enum class ActivationFormat {
  kNone,  // They stay as they are.
  // They have 8 bits, symmetric, one scale a token: max |x| / 127, when the model runs.
  kDynamicToken,
  kStaticTensor,  // They have 8 bits, symmetric, one scale a Linear, from calibration.
};

struct StoredFormat {
  WeightFormat format;
  OutputFormat output = OutputFormat::kAwqGemm;
  ActivationFormat activations = ActivationFormat::kNone;  // Only kIntQuantized has others.
};

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_STORED_FORMAT_H_
