// Which ids a tokenizer gives to tokens. A vocabulary is often padded to more rows of embeddings
// than that, and what stands in the rows above reaches no text.
#ifndef SALIENT_CORE_CHECKPOINT_TOKEN_IDS_H_
#define SALIENT_CORE_CHECKPOINT_TOKEN_IDS_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace salient {

// These files beside a model give ids to tokens.
inline constexpr std::array<absl::string_view, 4> kTokenIdFiles = {
    "tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer_config.json"};

class TokenIds {
 public:
  // Adds the ids that `text` gives, the content of the file of kTokenIdFiles that `name` ends with.
  // It keeps nothing of the text. Its errors are those of ParseJson, and INVALID_ARGUMENT for
  // another file.
  absl::Status Add(absl::string_view name, absl::string_view text);

  // Returns the highest id; nullopt unless tokenizer.json or vocab.json had a vocabulary, because
  // the others tell of additions to one alone.
  std::optional<int64_t> Highest() const;

 private:
  void AddId(int64_t id);

  bool has_vocabulary_ = false;
  int64_t highest_ = -1;
};

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_TOKEN_IDS_H_
