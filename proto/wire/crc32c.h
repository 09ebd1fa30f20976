// Computes CRC-32C (Castagnoli), the checksum of every chunk.
#ifndef SALIENT_PROTO_WIRE_CRC32C_H_
#define SALIENT_PROTO_WIRE_CRC32C_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace salient {

// Returns the CRC-32C of `data` as of RFC 3720, appendix B.4: reflected polynomial 0x82F63B78,
// initial value and final XOR 0xFFFFFFFF. Crc32c("123456789") == 0xE3069283. With `before`, the CRC
// of other bytes, returns that of those bytes followed by `data`. It is thread-safe.
uint32_t Crc32c(absl::string_view data, uint32_t before = 0);

}  // namespace salient

#endif  // SALIENT_PROTO_WIRE_CRC32C_H_
