// Says how a result is stored: its weights' format, the layout of its tensors, and what an engine
// does to the activations that its Linears read.
#ifndef SALIENT_CORE_TENSOR_STORED_FORMAT_H_
#define SALIENT_CORE_TENSOR_STORED_FORMAT_H_

#include "core/tensor/affine_groups.h"

namespace salient {

enum class OutputFormat {
  kAwqGemm,            // 4 bit: qweight, qzeros, scales
  kGptq,               // 3, 4, 8 bit, symmetric: qweight, qzeros (minus one), scales, g_idx
  kGptqV2,             // 3, 4, 8 bit: the same with zero points as they are
  kCompressedTensors,  // "pack-quantized", 4 and 8 bit
  kIntQuantized,       // "int-quantized", 8 bit weights and activations
  kScaledFp16,         // s folded in, not quantized: weight
  kDequantizedFp16,    // 2 to 8 bit: weight, decoded again to F16; losses are those before that
};

enum class ActivationFormat {
  kNone,          // as they are
  kDynamicToken,  // 8 bit, symmetric, one scale a token: max |x| / 127, when the model runs
  kStaticTensor,  // 8 bit, symmetric, one scale a Linear, from calibration
};

struct StoredFormat {
  WeightFormat format;
  OutputFormat output = OutputFormat::kAwqGemm;
  ActivationFormat activations = ActivationFormat::kNone;  // others: kIntQuantized only
};

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_STORED_FORMAT_H_
