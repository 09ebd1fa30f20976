#include "core/pack/code_stream.h"

#include <algorithm>
#include <cstring>

namespace salient {
namespace {

// Eight codes are 3 bytes.
void Pack3(const uint8_t* codes, int64_t count, int64_t bytes, std::byte* out) {
  for (int64_t k = 0, at = 0; k < count; k += 8, at += 3) {
    uint32_t bits = 0;
    const int64_t some = std::min<int64_t>(8, count - k);
    for (int64_t i = 0; i < some; ++i) bits |= uint32_t{codes[k + i]} << (3 * i);
    for (int64_t b = 0; b < std::min<int64_t>(3, bytes - at); ++b) {
      out[at + b] = static_cast<std::byte>(bits >> (8 * b));
    }
  }
}

void Unpack3(const std::byte* bytes, int64_t count, uint8_t* codes) {
  for (int64_t k = 0; k < count; ++k) {
    const int64_t at = 3 * k;
    uint32_t bits = static_cast<uint32_t>(bytes[at / 8]);
    if (at % 8 > 5) bits |= static_cast<uint32_t>(bytes[at / 8 + 1]) << 8;
    codes[k] = static_cast<uint8_t>((bits >> (at % 8)) & 7);
  }
}

}  // namespace

void PackCodes(const uint8_t* codes, int64_t count, int bits, std::byte* words) {
  const int64_t bytes = 4 * WordsOf(count, bits);
  const int64_t used = (count * bits + 7) / 8;
  std::memset(words + used, 0, static_cast<size_t>(bytes - used));
  if (bits == 8) {
    std::memcpy(words, codes, static_cast<size_t>(count));
  } else if (bits == 4) {
    const int64_t pairs = count / 2;
    for (int64_t i = 0; i < pairs; ++i) {
      words[i] = static_cast<std::byte>(codes[2 * i] | (codes[2 * i + 1] << 4));
    }
    if (count % 2 != 0) words[pairs] = static_cast<std::byte>(codes[count - 1]);
  } else {
    Pack3(codes, count, used, words);
  }
}

void UnpackCodes(const std::byte* words, int64_t count, int bits, uint8_t* codes) {
  if (bits == 8) {
    std::memcpy(codes, words, static_cast<size_t>(count));
  } else if (bits == 4) {
    for (int64_t k = 0; k < count; ++k) {
      codes[k] = static_cast<uint8_t>((static_cast<uint32_t>(words[k / 2]) >> (4 * (k % 2))) & 15);
    }
  } else {
    Unpack3(words, count, codes);
  }
}

uint8_t CodeAt(const std::byte* words, int64_t stride, int64_t k, int bits) {
  const int64_t first = k * bits / 32;
  const int64_t shift = k * bits % 32;
  uint32_t word;
  std::memcpy(&word, words + first * stride * 4, sizeof(word));
  uint64_t value = word;
  if (shift + bits > 32) {
    std::memcpy(&word, words + (first + 1) * stride * 4, sizeof(word));
    value |= uint64_t{word} << 32;
  }
  return static_cast<uint8_t>((value >> shift) & ((uint32_t{1} << bits) - 1));
}

}  // namespace salient
