// Codes of a few bits as a stream of bits in little-endian 32-bit words: code k in bits b k to
// b k + b - 1, the first in the lowest bits of the first word.
#ifndef SALIENT_CORE_PACK_CODE_STREAM_H_
#define SALIENT_CORE_PACK_CODE_STREAM_H_

#include <cstddef>
#include <cstdint>

namespace salient {

// Words that `codes` codes of `bits` bits take.
constexpr int64_t WordsOf(int64_t codes, int bits) { return (codes * bits + 31) / 32; }

// Codes at a word's boundary again: the fewest that fill whole words.
constexpr int64_t CodesPerPeriod(int bits) { return bits == 3 ? 32 : 32 / bits; }

// Packs codes of `bits` bits, 3, 4 or 8. Writes all of words[4 WordsOf(count, bits)]: bits beyond
// the last code are 0. Codes are below 2^bits.
void PackCodes(const uint8_t* codes, int64_t count, int bits, std::byte* words);

// Does the inverse.
void UnpackCodes(const std::byte* words, int64_t count, int bits, uint8_t* codes);

// Returns code k alone, of a stream whose words lie `stride` words apart.
uint8_t CodeAt(const std::byte* words, int64_t stride, int64_t k, int bits);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_CODE_STREAM_H_
