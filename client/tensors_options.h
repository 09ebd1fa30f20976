// How to quantize, as flags and as a message.
#ifndef SALIENT_CLIENT_TENSORS_OPTIONS_H_
#define SALIENT_CLIENT_TENSORS_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient {

// What the command line says. Empty strings were not given.
struct TensorsOptions {
  std::string method = "awq";  // A preset of the three choices: awq or rtn.
  std::string scale = "";      // none or awq.
  std::string range = "";      // minmax or clip.
  std::string rounding = "";   // nearest or block.
  bool autoawq = false;        // Follow AutoAWQ; rounding is then nearest unless given.
  int32_t bits = 4;
  int64_t group_size = 128;
  bool symmetric = false;
  uint64_t seed = 0;
};

// The same as a message in which every choice is explicit. INVALID_ARGUMENT names an unknown value
// and the known ones. Whether a server has the combination is the server's to say.
absl::StatusOr<v1::QuantizeTensorsOptions> ToMessage(const TensorsOptions& options);

// What a reader of the result has to know, for the metadata of the file.
std::map<std::string, std::string> FileMetadata(const v1::QuantizeTensorsOptions& options);

}  // namespace salient

#endif  // SALIENT_CLIENT_TENSORS_OPTIONS_H_
