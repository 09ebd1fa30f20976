// Says how to quantize, as flags and as messages.
#ifndef SALIENT_CLIENT_OPTIONS_METHOD_H_
#define SALIENT_CLIENT_OPTIONS_METHOD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "salient/v1/method.pb.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

// Holds what the command line says. Empty strings were not given.
struct MethodOptions {
  std::string method = "awq";  // A preset of the three choices: awq, rtn, smoothquant, gptq.
  std::string scale = "";      // It is none, awq or smoothquant.
  std::string range = "";      // It is minmax or clip.
  std::string rounding = "";   // It is nearest, block or gptq.
  bool autoawq = false;        // Follow AutoAWQ; rounding is then nearest unless given.
  // The rounding's own settings, where it has them; nullopt stands for the server's default.
  std::optional<float> gptq_damping = std::nullopt;
  bool no_act_order = false;
  std::optional<int32_t> descent_sweeps = std::nullopt;
  std::optional<int32_t> refits = std::nullopt;
  // --scale smoothquant takes it; nullopt has it searched.
  std::optional<double> smoothquant_alpha = std::nullopt;
  int32_t bits = 0;        // 0 stands for 4, or 8 with int-quantized.
  int64_t group_size = 0;  // 0 stands for 128, or -1 with int-quantized.
  bool symmetric = false;  // gptq and int-quantized always are.
  // It is dynamic or static; int-quantized alone has it, dynamic by default.
  std::string activations = "";
  uint64_t seed = 0;
};

// Returns the presets in the order they are to be told.
std::vector<std::string> MethodNames();

// Makes a message in which every choice is explicit. INVALID_ARGUMENT names an unknown value and
// the known ones, or a flag that does not go with the scale or the rounding.
absl::StatusOr<v1::Method> ToMethod(const MethodOptions& options);

// Converts the options; `format` is a text of OutputFormat. Its errors are those of ToMethod.
// Whether there is such a combination is for the server to say.
absl::StatusOr<v1::WeightFormat> ToWeightFormat(const MethodOptions& options,
                                                const std::string& format);

// Returns UNIMPLEMENTED, naming the flag, its value and what the server has, for a choice that the
// server does not say it has. Whether it has the combination is for the server to say.
absl::Status CheckServerHas(const v1::GetServerInfoResponse& info, const v1::Method& method,
                            const v1::WeightFormat& format);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_METHOD_H_
