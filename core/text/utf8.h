// UTF-8 (RFC 3629), which all texts of the protocol are.
#ifndef SALIENT_CORE_TEXT_UTF8_H_
#define SALIENT_CORE_TEXT_UTF8_H_

#include <string>

#include "absl/strings/string_view.h"

namespace salient {

bool IsUtf8(absl::string_view text);

// Returns `text` with "\xHH" for each byte that belongs to no character. A config may hold half a
// character, which Python reads, and a file may have any name.
std::string EscapeNonUtf8(absl::string_view text);

}  // namespace salient

#endif  // SALIENT_CORE_TEXT_UTF8_H_
