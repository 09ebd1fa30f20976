// Reads numbers with a unit behind them, as people give them to programs.
#ifndef SALIENT_CORE_TEXT_MEASURE_H_
#define SALIENT_CORE_TEXT_MEASURE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace salient {

// Errors say so what was expected.
inline constexpr char kBytesExpected[] = "bytes, or a number with KiB, MiB, GiB or TiB behind it";
inline constexpr char kSecondsExpected[] = "seconds, or a number with ms, s, m, h or d behind it";

// Reads a whole number of bytes, or of a unit of 1024: "8G", "64 GiB", "512mb". nullopt for all
// else, and what 63 bits do not hold.
std::optional<int64_t> ParseBytes(absl::string_view text);

// Reads seconds, or "250ms", "30s", "1.5 h", "1d" as seconds. nullopt for all else, and what is
// negative or not finite.
std::optional<double> ParseSeconds(absl::string_view text);

// Returns the number so that reading it gives the same.
std::string NumberText(int64_t number);
std::string NumberText(double number);

}  // namespace salient

#endif  // SALIENT_CORE_TEXT_MEASURE_H_
