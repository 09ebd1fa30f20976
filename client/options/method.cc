#include "client/options/method.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/enum_text.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

struct Preset {
  const char* scale;
  const char* range;
  const char* rounding;
};

const std::vector<std::pair<std::string, Preset>>& Presets() {
  static const std::vector<std::pair<std::string, Preset>> presets = {
      {"awq", {"awq", "clip", "block"}},
      {"rtn", {"none", "minmax", "nearest"}},
      {"smoothquant", {"smoothquant", "minmax", "nearest"}},
      {"gptq", {"none", "minmax", "gptq"}}};
  return presets;
}

absl::Status Unknown(absl::string_view flag, const std::string& name,
                     const std::vector<std::string>& known) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " ", QuoteForMessage(name),
                                                 "; expected ", absl::StrJoin(known, " or ")));
}

template <typename Enum>
absl::StatusOr<Enum> Named(absl::string_view flag, const std::string& name) {
  const std::optional<Enum> value = EnumNamed<Enum>(name);
  if (!value.has_value()) return Unknown(flag, name, FlagTexts<Enum>());
  return *value;
}

absl::StatusOr<Preset> PresetNamed(const std::string& name) {
  for (const auto& [key, preset] : Presets()) {
    if (key == name) return preset;
  }
  return Unknown("method", name, MethodNames());
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

template <typename Enum>
absl::Status CheckHas(absl::string_view flag, Enum wanted,
                      const google::protobuf::RepeatedField<int>& has) {
  if (std::find(has.begin(), has.end(), static_cast<int>(wanted)) != has.end()) {
    return absl::OkStatus();
  }
  std::vector<std::string> known;
  for (const int value : has) known.push_back(FlagText(static_cast<Enum>(value)));
  return absl::UnimplementedError(absl::StrCat("--", flag, " ", FlagText(wanted),
                                               ": this server does not have it; it has ",
                                               absl::StrJoin(known, ", ")));
}

}  // namespace

std::vector<std::string> MethodNames() {
  std::vector<std::string> names;
  for (const auto& [name, preset] : Presets()) names.push_back(name);
  return names;
}

absl::StatusOr<v1::Method> ToMethod(const MethodOptions& options) {
  auto preset = PresetNamed(options.method);
  if (!preset.ok()) return preset.status();
  if (options.autoawq && options.method == "awq") preset->rounding = "nearest";
  const auto pick = [](const std::string& given, const char* otherwise) {
    return given.empty() ? std::string(otherwise) : given;
  };
  const auto scale = Named<v1::Scale>("scale", pick(options.scale, preset->scale));
  if (!scale.ok()) return scale.status();
  const auto range = Named<v1::Range>("range", pick(options.range, preset->range));
  if (!range.ok()) return range.status();
  const auto rounding = Named<v1::Rounding>("rounding", pick(options.rounding, preset->rounding));
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
  const auto output_format = Named<v1::OutputFormat>("format", format);
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
    const auto activations = Named<v1::ActivationFormat>(
        "activations", options.activations.empty() ? "dynamic" : options.activations);
    if (!activations.ok()) return activations.status();
    message.set_activations(*activations);
  }
  return message;
}

absl::Status CheckServerHas(const v1::GetServerInfoResponse& info, const v1::Method& method,
                            const v1::WeightFormat& format) {
  for (const absl::Status& has :
       {CheckHas("scale", method.scale(), info.scales()),
        CheckHas("range", method.range(), info.ranges()),
        CheckHas("rounding", method.rounding(), info.roundings()),
        CheckHas("format", format.output_format(), info.output_formats())}) {
    if (!has.ok()) return has;
  }
  if (format.activations() == v1::ACTIVATION_FORMAT_UNSPECIFIED) return absl::OkStatus();
  return CheckHas("activations", format.activations(), info.activation_formats());
}

}  // namespace salient::client
