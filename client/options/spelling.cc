#include "client/options/spelling.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace salient::client {
namespace {

constexpr size_t kMaxTypedBytes = 64;

// Returns the optimal string alignment distance, by the table of all prefixes.
size_t EditDistance(absl::string_view from, absl::string_view to) {
  std::vector<std::vector<size_t>> edits(from.size() + 1, std::vector<size_t>(to.size() + 1));
  for (size_t i = 0; i <= from.size(); ++i) edits[i][0] = i;
  for (size_t j = 0; j <= to.size(); ++j) edits[0][j] = j;
  for (size_t i = 1; i <= from.size(); ++i) {
    for (size_t j = 1; j <= to.size(); ++j) {
      const size_t replaced = edits[i - 1][j - 1] + (from[i - 1] == to[j - 1] ? 0 : 1);
      edits[i][j] = std::min({replaced, edits[i - 1][j] + 1, edits[i][j - 1] + 1});
      const bool exchanged = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
      if (exchanged) edits[i][j] = std::min(edits[i][j], edits[i - 2][j - 2] + 1);
    }
  }
  return edits[from.size()][to.size()];
}

}  // namespace

std::optional<std::string> NearestName(absl::string_view text,
                                       absl::Span<const std::string> names) {
  if (text.empty() || text.size() > kMaxTypedBytes) return std::nullopt;
  size_t fewest = std::max<size_t>(1, text.size() / 3);
  std::optional<std::string> nearest;
  for (const std::string& name : names) {
    const size_t edits = EditDistance(text, name);
    if (edits > fewest || (edits == fewest && nearest.has_value())) continue;
    fewest = edits;
    nearest = name;
  }
  if (nearest.has_value()) return nearest;
  const auto begins = std::find_if(names.begin(), names.end(), [text](const std::string& name) {
    return text.size() > 2 && absl::StartsWith(name, text);
  });
  return begins == names.end() ? std::nullopt : std::make_optional(*begins);
}

std::string DidYouMean(absl::string_view text, absl::Span<const std::string> names) {
  const std::optional<std::string> nearest = NearestName(text, names);
  return nearest.has_value() ? absl::StrCat("; did you mean ", *nearest, "?") : "";
}

}  // namespace salient::client
