// Quotes text of strangers for messages.
#ifndef SALIENT_CORE_TEXT_QUOTE_H_
#define SALIENT_CORE_TEXT_QUOTE_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace salient {

// Returns `text` in double quotes: all but printable ASCII is escaped, and what stands behind
// `max_bytes` is left out, which the result then says.
std::string QuoteForMessage(absl::string_view text, size_t max_bytes = 128);

}  // namespace salient

#endif  // SALIENT_CORE_TEXT_QUOTE_H_
