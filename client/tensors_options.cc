#include "client/tensors_options.h"

#include "absl/strings/str_cat.h"

namespace salient::client {

absl::StatusOr<v1::QuantizeTensorsOptions> ToMessage(const MethodOptions& options) {
  auto method = ToMethod(options);
  if (!method.ok()) return method.status();
  auto format = ToWeightFormat(options, "awq-gemm");
  if (!format.ok()) return format.status();
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
          {"layout", "awq-gemm"}};
}

}  // namespace salient::client
