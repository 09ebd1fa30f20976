#include "server/rpc/convert/method.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/method/bounds.h"
#include "core/pack/stored_format.h"
#include "core/tensor/dtype.h"
#include "core/tensor/format_bounds.h"
#include "core/tensor/stored_format.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"
#include "server/rpc/convert/enums.h"

namespace salient {
namespace {

// Is a field that is 0 to `high`.
struct Bound {
  absl::string_view field;
  double value;
  double high;
};

absl::Status CheckBound(absl::string_view path, const Bound& bound) {
  if (bound.value >= 0 && bound.value <= bound.high) return absl::OkStatus();  // NaN is refused.
  return BadField(Reason::kBadMethod, absl::StrCat(path, bound.field), absl::StrCat(bound.value),
                  absl::StrCat("0 to ", bound.high));
}

absl::StatusOr<RoundBlockParams> ToBlock(absl::string_view path, const v1::BlockRounding& block) {
  RoundBlockParams params;
  if (block.has_width()) params.width = block.width();
  if (block.has_shrinkage()) params.shrinkage = block.shrinkage();
  if (block.has_descent_sweeps()) params.descent_sweeps = block.descent_sweeps();
  if (block.has_refits()) params.refits = block.refits();
  if (block.has_damping()) params.damping = block.damping();
  if (params.width != 128 && params.width != 256) {
    return BadField(Reason::kBadMethod, absl::StrCat(path, ".width"), absl::StrCat(params.width),
                    "128 or 256");
  }
  for (const Bound& bound :
       {Bound{".shrinkage", params.shrinkage, kMostShrinkage},
        Bound{".descent_sweeps", static_cast<double>(params.descent_sweeps), kMostDescentSweeps},
        Bound{".refits", static_cast<double>(params.refits), kMostRefits},
        Bound{".damping", params.damping, kMostDamping}}) {
    if (absl::Status status = CheckBound(path, bound); !status.ok()) return status;
  }
  return params;
}

absl::StatusOr<RoundGptqParams> ToGptq(absl::string_view path, const v1::GptqRounding& gptq) {
  RoundGptqParams params;
  if (gptq.has_damping()) params.damping = gptq.damping();
  if (gptq.has_act_order()) params.act_order = gptq.act_order();
  if (gptq.has_descent_sweeps()) params.descent_sweeps = gptq.descent_sweeps();
  if (gptq.has_refits()) params.refits = gptq.refits();
  for (const Bound& bound :
       {Bound{".damping", params.damping, kMostDamping},
        Bound{".descent_sweeps", static_cast<double>(params.descent_sweeps), kMostDescentSweeps},
        Bound{".refits", static_cast<double>(params.refits), kMostRefits}}) {
    if (absl::Status status = CheckBound(path, bound); !status.ok()) return status;
  }
  return params;
}

absl::StatusOr<ScaleSmoothQuantParams> ToSmoothQuant(absl::string_view path,
                                                     const v1::SmoothQuantScale& message) {
  ScaleSmoothQuantParams params;
  if (!message.has_alpha()) return params;
  absl::Status status = CheckBound(path, {".alpha", message.alpha(), kMostAlpha});
  if (!status.ok()) return status;
  params.alpha = message.alpha();
  return params;
}

// Unset fields keep what `format` has.
absl::StatusOr<WeightFormat> ToWeights(absl::string_view path, const v1::WeightFormat& message,
                                       WeightFormat format) {
  if (message.bits() != 0) format.bits = message.bits();
  if (!IsCodeWidth(format.bits)) {
    return BadField(Reason::kBadFormat, absl::StrCat(path, ".bits"), absl::StrCat(message.bits()),
                    kBitsExpected);
  }
  if (message.group_size() != 0) format.group_size = message.group_size();
  if (!IsGroupSize(format.group_size)) {
    return BadField(Reason::kBadFormat, absl::StrCat(path, ".group_size"),
                    absl::StrCat(message.group_size()), kGroupSizeExpected);
  }
  format.symmetric = format.symmetric || message.symmetric();
  return format;
}

}  // namespace

absl::StatusOr<Method> ToMethod(absl::string_view path, const v1::Method& message) {
  Method method;
  const auto scale = FromWireOr(kScales, method.scale, Reason::kBadMethod,
                                absl::StrCat(path, ".scale"), message.scale());
  if (!scale.ok()) return scale.status();
  const auto range = FromWireOr(kRanges, method.range, Reason::kBadMethod,
                                absl::StrCat(path, ".range"), message.range());
  if (!range.ok()) return range.status();
  const auto rounding = FromWireOr(kRoundings, method.rounding, Reason::kBadMethod,
                                   absl::StrCat(path, ".rounding"), message.rounding());
  if (!rounding.ok()) return rounding.status();
  const auto block = ToBlock(absl::StrCat(path, ".block"), message.block());
  if (!block.ok()) return block.status();
  const auto gptq = ToGptq(absl::StrCat(path, ".gptq"), message.gptq());
  if (!gptq.ok()) return gptq.status();
  const auto smoothquant = ToSmoothQuant(absl::StrCat(path, ".smoothquant"), message.smoothquant());
  if (!smoothquant.ok()) return smoothquant.status();
  method.scale = *scale;
  method.range = *range;
  method.rounding = *rounding;
  method.block = *block;
  method.gptq = *gptq;
  method.smoothquant = *smoothquant;
  method.autoawq = message.autoawq();
  if (method.autoawq && method.scale == ScaleChoice::kSmoothQuant) {
    return WithField(InvalidCall(Reason::kBadMethod,
                                 "autoawq with a scale of SCALE_SMOOTHQUANT; expected SCALE_AWQ or "
                                 "SCALE_NONE, which is what AutoAWQ does"),
                     absl::StrCat(path, ".autoawq"));
  }
  if (method.autoawq && method.rounding != RoundingChoice::kNearest) {
    return WithField(
        InvalidCall(Reason::kBadMethod,
                    absl::StrCat("autoawq with a rounding of ",
                                 v1::Rounding_Name(ToWire(kRoundings, method.rounding)),
                                 "; expected ROUNDING_NEAREST, which is what AutoAWQ "
                                 "does")),
        absl::StrCat(path, ".autoawq"));
  }
  return method;
}

absl::StatusOr<WeightFormat> ToWeightFormat(absl::string_view path,
                                            const v1::WeightFormat& message) {
  return ToWeights(path, message, {});
}

absl::StatusOr<StoredFormat> ToStoredFormat(absl::string_view path,
                                            const v1::WeightFormat& message) {
  const auto output = FromWireOr(kOutputFormats, StoredFormat().output, Reason::kBadFormat,
                                 absl::StrCat(path, ".output_format"), message.output_format());
  if (!output.ok()) return output.status();
  WeightFormat defaults;
  // Its scales are stored as F32.
  if (*output == OutputFormat::kIntQuantized) defaults = {8, kWholeRow, true, DType::kF32};
  const auto format = ToWeights(path, message, defaults);
  if (!format.ok()) return format.status();
  const ActivationFormat default_activations = *output == OutputFormat::kIntQuantized
                                                   ? ActivationFormat::kDynamicToken
                                                   : ActivationFormat::kNone;
  const auto activations = FromWireOr(kActivationFormats, default_activations, Reason::kBadFormat,
                                      absl::StrCat(path, ".activations"), message.activations());
  if (!activations.ok()) return activations.status();
  const StoredFormat stored{*format, *output, *activations};
  if (const auto fault = FindFormatFault(stored); fault.has_value()) {
    return BadField(Reason::kBadFormat, absl::StrCat(path, ".", fault->field), fault->value,
                    fault->expected);
  }
  return stored;
}

}  // namespace salient
