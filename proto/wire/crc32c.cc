#include "proto/wire/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstddef>

namespace salient {

uint32_t Crc32c(absl::string_view data, uint32_t before) {
  // ISA-L counts in int and inverts neither the initial nor the final value.
  constexpr size_t kPiece = size_t{1} << 30;
  uint32_t crc = ~before;
  while (!data.empty()) {
    const size_t size = std::min(data.size(), kPiece);
    // The library's parameter is not const, but it only reads.
    auto* bytes = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(data.data()));
    crc = crc32_iscsi(bytes, static_cast<int>(size), crc);
    data.remove_prefix(size);
  }
  return ~crc;
}

}  // namespace salient
