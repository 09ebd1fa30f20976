// Finds the name that somebody who mistyped it may have meant.
#ifndef SALIENT_CLIENT_OPTIONS_SPELLING_H_
#define SALIENT_CLIENT_OPTIONS_SPELLING_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient::client {

// Returns the one of `names` that takes the fewest edits (a character added, left out or replaced,
// or two neighbours exchanged) to make of `text`, or one that begins with it; nullopt if the
// nearest is farther than a third of `text`.
std::optional<std::string> NearestName(absl::string_view text, absl::Span<const std::string> names);

// Returns "; did you mean X?", or nothing.
std::string DidYouMean(absl::string_view text, absl::Span<const std::string> names);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_SPELLING_H_
