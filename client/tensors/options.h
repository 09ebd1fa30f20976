// Says how to quantize tensors, as a message and as what a file says about itself.
#ifndef SALIENT_CLIENT_TENSORS_OPTIONS_H_
#define SALIENT_CLIENT_TENSORS_OPTIONS_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "client/options/method.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

// Converts the options, all explicit, with `format` as in ParseFormat. Its errors are those of
// ToMethod and ParseFormat. The server judges whether it has the combination.
absl::StatusOr<v1::QuantizeTensorsOptions> ToMessage(const MethodOptions& options,
                                                     const std::string& format = "awq-gemm");

// Tells what a reader of the result has to know, for the metadata of the file.
std::map<std::string, std::string> FileMetadata(const v1::QuantizeTensorsOptions& options);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_OPTIONS_H_
