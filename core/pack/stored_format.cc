#include "core/pack/stored_format.h"

#include "absl/strings/str_cat.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/format_bounds.h"

namespace salient {
namespace {

using Fault = std::optional<FormatFault>;

bool IsPlain(OutputFormat output) {
  return output == OutputFormat::kScaledFp16 || output == OutputFormat::kDequantizedFp16;
}

// Names what holds codes of this width.
std::string NearestOfWidth(const WeightFormat& format) {
  const absl::string_view gptq = format.symmetric ? "gptq" : "gptq-v2";
  switch (format.bits) {
    case 3:
      return absl::StrCat(gptq, " has 3");
    case 4:
      return absl::StrCat("awq-gemm, ", gptq, " and compressed-tensors have 4");
    case 8:
      return absl::StrCat("compressed-tensors and ", gptq, " have 8");
    default:
      return absl::StrCat("dequantized-fp16 has ", kBitsExpected);
  }
}

Fault FaultOfBits(const WeightFormat& format, absl::string_view expected) {
  return FormatFault{"bits", absl::StrCat(format.bits),
                     absl::StrCat(expected, "; ", NearestOfWidth(format))};
}

// Finds the fault of layouts with words and F16 scales.
Fault FaultOfPacked(const StoredFormat& stored) {
  const WeightFormat& format = stored.format;
  if (format.group_size == kWholeTensor) {
    return FormatFault{
        "group_size", "-2",
        absl::StrCat("-1, one scale a row, or a divisor of in_features: engines load "
                     "no ",
                     Name(stored.output),
                     " with one scale for a whole tensor; int-quantized has it")};
  }
  if (format.scale_dtype != DType::kF16) {
    return FormatFault{"scale_dtype", std::string(Name(format.scale_dtype)),
                       absl::StrCat("F16, as ", Name(stored.output), " stores scales")};
  }
  return std::nullopt;
}

Fault FaultOfIntQuantized(const StoredFormat& stored) {
  const WeightFormat& format = stored.format;
  if (format.bits != 8) return FaultOfBits(format, "8, the only width of int-quantized");
  if (!format.symmetric) {
    return FormatFault{"symmetric", "false",
                       "true: engines load int-quantized without zero points alone; "
                       "compressed-tensors has them"};
  }
  if (format.group_size > 0) {
    return FormatFault{"group_size", absl::StrCat(format.group_size),
                       "-1, one scale a row, or -2, one for the whole tensor, for int-quantized; "
                       "compressed-tensors has groups"};
  }
  if (stored.activations == ActivationFormat::kNone) {
    return FormatFault{"activations", "none",
                       "dynamic or static for int-quantized; compressed-tensors has weights of 8 "
                       "bits alone"};
  }
  return std::nullopt;
}

}  // namespace

absl::string_view Name(OutputFormat output) {
  switch (output) {
    case OutputFormat::kAwqGemm:
      return "awq-gemm";
    case OutputFormat::kGptq:
      return "gptq";
    case OutputFormat::kGptqV2:
      return "gptq-v2";
    case OutputFormat::kCompressedTensors:
      return "compressed-tensors";
    case OutputFormat::kIntQuantized:
      return "int-quantized";
    case OutputFormat::kScaledFp16:
      return "scaled-fp16";
    case OutputFormat::kDequantizedFp16:
      return "dequantized-fp16";
  }
  return "";
}

absl::string_view Name(ActivationFormat activations) {
  switch (activations) {
    case ActivationFormat::kNone:
      return "none";
    case ActivationFormat::kDynamicToken:
      return "dynamic";
    case ActivationFormat::kStaticTensor:
      return "static";
  }
  return "";
}

std::optional<FormatFault> FindFormatFault(const StoredFormat& stored) {
  const WeightFormat& format = stored.format;
  const int bits = format.bits;
  if (stored.output == OutputFormat::kIntQuantized) return FaultOfIntQuantized(stored);
  if (stored.activations != ActivationFormat::kNone) {
    return FormatFault{
        "activations", std::string(Name(stored.activations)),
        absl::StrCat("none for ", Name(stored.output),
                     "; int-quantized, symmetric and 8 bit, quantizes activations, too")};
  }
  if (IsPlain(stored.output)) return std::nullopt;
  switch (stored.output) {
    case OutputFormat::kAwqGemm:
      if (bits != 4) return FaultOfBits(format, "4, the only width of awq-gemm");
      break;
    case OutputFormat::kCompressedTensors:
      if (bits != 4 && bits != 8) {
        return FaultOfBits(format, "4 or 8, the widths of compressed-tensors");
      }
      break;
    default:
      if (bits != 3 && bits != 4 && bits != 8) {
        return FaultOfBits(format, absl::StrCat("3, 4 or 8, the widths of ", Name(stored.output)));
      }
      if (stored.output == OutputFormat::kGptqV2 || format.symmetric) break;
      return FormatFault{"symmetric", "false",
                         absl::StrCat("true for gptq, because its zero points of 0 are read in "
                                      "different ways; gptq-v2",
                                      bits == 3 ? " holds" : " and compressed-tensors hold",
                                      " asymmetric weights")};
  }
  return FaultOfPacked(stored);
}

}  // namespace salient
