#include "client/options/method.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

template <typename Value>
using Names = std::vector<std::pair<std::string, Value>>;

struct Preset {
  const char* scale;
  const char* range;
  const char* rounding;
};

const Names<Preset>& Presets() {
  static const Names<Preset> names = {{"awq", {"awq", "clip", "block"}},
                                      {"rtn", {"none", "minmax", "nearest"}},
                                      {"smoothquant", {"smoothquant", "minmax", "nearest"}},
                                      {"gptq", {"none", "minmax", "gptq"}}};
  return names;
}

const Names<v1::Scale>& Scales() {
  static const Names<v1::Scale> names = {
      {"none", v1::SCALE_NONE}, {"awq", v1::SCALE_AWQ}, {"smoothquant", v1::SCALE_SMOOTHQUANT}};
  return names;
}

const Names<v1::Range>& Ranges() {
  static const Names<v1::Range> names = {{"minmax", v1::RANGE_MIN_MAX}, {"clip", v1::RANGE_CLIP}};
  return names;
}

const Names<v1::Rounding>& Roundings() {
  static const Names<v1::Rounding> names = {{"nearest", v1::ROUNDING_NEAREST},
                                            {"block", v1::ROUNDING_BLOCK},
                                            {"gptq", v1::ROUNDING_GPTQ}};
  return names;
}

const Names<v1::OutputFormat>& Formats() {
  static const Names<v1::OutputFormat> names = {
      {"awq-gemm", v1::OUTPUT_FORMAT_AWQ_GEMM},
      {"gptq", v1::OUTPUT_FORMAT_GPTQ},
      {"gptq-v2", v1::OUTPUT_FORMAT_GPTQ_V2},
      {"compressed-tensors", v1::OUTPUT_FORMAT_COMPRESSED_TENSORS},
      {"int-quantized", v1::OUTPUT_FORMAT_INT_QUANTIZED},
      {"scaled-fp16", v1::OUTPUT_FORMAT_SCALED_FP16},
      {"dequantized-fp16", v1::OUTPUT_FORMAT_DEQUANTIZED_FP16}};
  return names;
}

const Names<v1::ActivationFormat>& Activations() {
  static const Names<v1::ActivationFormat> names = {
      {"dynamic", v1::ACTIVATION_FORMAT_DYNAMIC_TOKEN},
      {"static", v1::ACTIVATION_FORMAT_STATIC_TENSOR}};
  return names;
}

template <typename Value>
std::vector<std::string> KeysOf(const Names<Value>& names) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : names) keys.push_back(key);
  return keys;
}

template <typename Value>
absl::StatusOr<Value> Named(absl::string_view flag, const std::string& name,
                            const Names<Value>& names) {
  for (const auto& [key, value] : names) {
    if (key == name) return value;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, " ", QuoteForMessage(name), "; expected ", absl::StrJoin(KeysOf(names), " or ")));
}

template <typename Value>
std::string NameIn(const Names<Value>& names, Value value, const std::string& api_name) {
  for (const auto& [key, known] : names) {
    if (known == value) return key;
  }
  return api_name.empty() ? absl::StrCat(static_cast<int>(value)) : api_name;
}

// Puts the flags of gptq and block rounding into the message of the one that is chosen.
absl::Status SetRounding(const MethodOptions& options, v1::Method& method) {
  const auto alone = [](absl::string_view flag, absl::string_view roundings) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " goes with --rounding ", roundings, " only"));
  };
  const bool gptq = method.rounding() == v1::ROUNDING_GPTQ;
  if (options.gptq_damping.has_value() && !gptq) return alone("gptq-damping", "gptq");
  if (options.no_act_order && !gptq) return alone("no-act-order", "gptq");
  if (gptq) {
    if (options.gptq_damping.has_value()) method.mutable_gptq()->set_damping(*options.gptq_damping);
    if (options.no_act_order) method.mutable_gptq()->set_act_order(false);
  } else if (method.rounding() != v1::ROUNDING_BLOCK) {
    if (options.descent_sweeps.has_value()) return alone("descent-sweeps", "gptq or block");
    if (options.refits.has_value()) return alone("refits", "gptq or block");
  }
  const auto set = [&](auto& message) {
    if (options.descent_sweeps.has_value()) message.set_descent_sweeps(*options.descent_sweeps);
    if (options.refits.has_value()) message.set_refits(*options.refits);
  };
  if (options.descent_sweeps.has_value() || options.refits.has_value()) {
    if (gptq) {
      set(*method.mutable_gptq());
    } else {
      set(*method.mutable_block());
    }
  }
  return absl::OkStatus();
}

template <typename Value>
absl::Status CheckHas(absl::string_view flag, Value wanted, const Names<Value>& names,
                      const google::protobuf::RepeatedField<int>& has) {
  if (std::find(has.begin(), has.end(), static_cast<int>(wanted)) != has.end()) {
    return absl::OkStatus();
  }
  std::string name;
  std::vector<std::string> known;
  for (const auto& [key, value] : names) {
    if (value == wanted) name = key;
    if (std::find(has.begin(), has.end(), static_cast<int>(value)) != has.end()) {
      known.push_back(key);
    }
  }
  return absl::UnimplementedError(absl::StrCat("--", flag, " ", name,
                                               ": this server does not have it; it has ",
                                               absl::StrJoin(known, ", ")));
}

}  // namespace

std::vector<std::string> MethodNames() { return KeysOf(Presets()); }
std::vector<std::string> ScaleNames() { return KeysOf(Scales()); }
std::vector<std::string> RangeNames() { return KeysOf(Ranges()); }
std::vector<std::string> RoundingNames() { return KeysOf(Roundings()); }
std::vector<std::string> FormatNames() { return KeysOf(Formats()); }
std::vector<std::string> ActivationNames() { return KeysOf(Activations()); }

std::string FlagName(v1::Scale scale) { return NameIn(Scales(), scale, v1::Scale_Name(scale)); }
std::string FlagName(v1::Range range) { return NameIn(Ranges(), range, v1::Range_Name(range)); }
std::string FlagName(v1::Rounding rounding) {
  return NameIn(Roundings(), rounding, v1::Rounding_Name(rounding));
}
std::string FlagName(v1::OutputFormat format) {
  return NameIn(Formats(), format, v1::OutputFormat_Name(format));
}
std::string FlagName(v1::ActivationFormat activations) {
  return NameIn(Activations(), activations, v1::ActivationFormat_Name(activations));
}

absl::StatusOr<v1::Method> ToMethod(const MethodOptions& options) {
  auto preset = Named("method", options.method, Presets());
  if (!preset.ok()) return preset.status();
  if (options.autoawq && options.method == "awq") preset->rounding = "nearest";
  const auto pick = [](const std::string& given, const char* otherwise) {
    return given.empty() ? std::string(otherwise) : given;
  };
  const auto scale = Named("scale", pick(options.scale, preset->scale), Scales());
  if (!scale.ok()) return scale.status();
  const auto range = Named("range", pick(options.range, preset->range), Ranges());
  if (!range.ok()) return range.status();
  const auto rounding = Named("rounding", pick(options.rounding, preset->rounding), Roundings());
  if (!rounding.ok()) return rounding.status();

  v1::Method method;
  method.set_scale(*scale);
  method.set_range(*range);
  method.set_rounding(*rounding);
  method.set_autoawq(options.autoawq);
  if (absl::Status status = SetRounding(options, method); !status.ok()) return status;
  if (options.smoothquant_alpha.has_value()) {
    if (method.scale() != v1::SCALE_SMOOTHQUANT) {
      return absl::InvalidArgumentError("--smoothquant-alpha goes with --scale smoothquant only");
    }
    method.mutable_smoothquant()->set_alpha(*options.smoothquant_alpha);
  }
  return method;
}

absl::StatusOr<v1::WeightFormat> ToWeightFormat(const MethodOptions& options,
                                                const std::string& format) {
  const auto output_format = Named("format", format, Formats());
  if (!output_format.ok()) return output_format.status();
  const bool w8a8 = *output_format == v1::OUTPUT_FORMAT_INT_QUANTIZED;
  v1::WeightFormat message;
  message.set_bits(options.bits != 0 ? options.bits : w8a8 ? 8 : 4);
  message.set_group_size(options.group_size != 0 ? options.group_size : w8a8 ? -1 : 128);
  // What GPTQ's first layout says of zero points is not read alike: it is symmetric.
  message.set_symmetric(options.symmetric || w8a8 || *output_format == v1::OUTPUT_FORMAT_GPTQ);
  message.set_output_format(*output_format);
  // Where there are several formats, it is meant for those that have it.
  if (w8a8) {
    const auto activations =
        Named("activations", options.activations.empty() ? "dynamic" : options.activations,
              Activations());
    if (!activations.ok()) return activations.status();
    message.set_activations(*activations);
  }
  return message;
}

absl::Status CheckServerHas(const v1::GetServerInfoResponse& info, const v1::Method& method,
                            const v1::WeightFormat& format) {
  for (const absl::Status& has :
       {CheckHas("scale", method.scale(), Scales(), info.scales()),
        CheckHas("range", method.range(), Ranges(), info.ranges()),
        CheckHas("rounding", method.rounding(), Roundings(), info.roundings()),
        CheckHas("format", format.output_format(), Formats(), info.output_formats())}) {
    if (!has.ok()) return has;
  }
  if (format.activations() == v1::ACTIVATION_FORMAT_UNSPECIFIED) return absl::OkStatus();
  return CheckHas("activations", format.activations(), Activations(), info.activation_formats());
}

}  // namespace salient::client
