#include "client/tensors/options.h"

#include "absl/strings/str_cat.h"
#include "client/options/enum_text.h"
#include "client/options/format.h"

namespace salient::client {

absl::StatusOr<v1::QuantizeTensorsOptions> ToMessage(const MethodOptions& options,
                                                     const std::string& format_flag) {
  auto method = ToMethod(options);
  if (!method.ok()) return method.status();
  auto format = ParseFormat(options, format_flag);
  if (!format.ok()) return format.status();
  const bool rounds_activations = format->output_format() == v1::OUTPUT_FORMAT_INT_QUANTIZED;
  if (!options.activations.empty() && !rounds_activations) {
    return absl::InvalidArgumentError("--activations goes with --format int-quantized only");
  }
  v1::QuantizeTensorsOptions message;
  *message.mutable_method() = *std::move(method);
  *message.mutable_format() = *std::move(format);
  message.set_seed(options.seed);
  return message;
}

std::map<std::string, std::string> FileMetadata(const v1::QuantizeTensorsOptions& options) {
  return {{"bits", absl::StrCat(options.format().bits())},
          {"group_size", absl::StrCat(options.format().group_size())},
          {"symmetric", options.format().symmetric() ? "true" : "false"},
          {"layout", FlagText(options.format().output_format())}};
}

}  // namespace salient::client
