#include "core/checkpoint/token_ids.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/config/json.h"
#include "core/text/quote.h"

namespace salient {
namespace {

using Path = absl::Span<const std::string>;

// Nothing is kept of a value, so what bounds their number is the size of the file.
constexpr JsonLimits kLimits = {.max_values = int64_t{1} << 40};

bool IsBelow(Path path, absl::string_view first, absl::string_view second) {
  return path.size() > 2 && path[0] == first && path[1] == second;
}

}  // namespace

void TokenIds::AddId(int64_t id) { highest_ = std::max(highest_, id); }

absl::Status TokenIds::Add(absl::string_view name, absl::string_view text) {
  const auto add = [this](const JsonValue& value, bool of_vocabulary) {
    const std::optional<int64_t> id = value.AsInt64();
    if (!id.has_value()) return;
    has_vocabulary_ = has_vocabulary_ || of_vocabulary;
    AddId(*id);
  };
  if (absl::EndsWith(name, "tokenizer_config.json")) {
    return VisitJson(name, text, kLimits, [&](Path path, const JsonValue&) {
      int64_t id = -1;
      const bool tells = path.size() > 1 && path[0] == "added_tokens_decoder";
      if (tells && absl::SimpleAtoi(path[1], &id)) AddId(id);
    });
  }
  if (absl::EndsWith(name, "tokenizer.json")) {
    int64_t pieces = 0;  // A vocabulary may be an array of [piece, score], in the order of ids.
    absl::Status status = VisitJson(name, text, kLimits, [&](Path path, const JsonValue& value) {
      if (path.size() == 3 && path[0] == "added_tokens" && path[2] == "id") {
        add(value, /*of_vocabulary=*/false);
      } else if (IsBelow(path, "model", "vocab")) {
        if (path.size() == 3) add(value, /*of_vocabulary=*/true);
        if (path.size() == 4 && value.AsString() != nullptr) ++pieces;
      }
    });
    if (pieces == 0) return status;
    has_vocabulary_ = true;
    AddId(pieces - 1);
    return status;
  }
  for (const absl::string_view file : {"vocab.json", "added_tokens.json"}) {
    if (!absl::EndsWith(name, file)) continue;
    return VisitJson(name, text, kLimits, [&](Path path, const JsonValue& value) {
      if (path.size() == 1) add(value, /*of_vocabulary=*/file == "vocab.json");
    });
  }
  return absl::InvalidArgumentError(
      absl::StrCat(QuoteForMessage(name), " gives no ids to tokens; expected ", kTokenIdFiles[0]));
}

std::optional<int64_t> TokenIds::Highest() const {
  return has_vocabulary_ ? std::optional<int64_t>(highest_) : std::nullopt;
}

}  // namespace salient
