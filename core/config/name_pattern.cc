#include "core/config/name_pattern.h"

#include <utility>

namespace salient {

bool NamePattern::MatchesStart(absl::string_view name) const {
  // All steps that could be next are followed together.
  const auto end = static_cast<int32_t>(program_.size());
  std::vector<int32_t> waiting = {0};
  for (size_t at = 0; !waiting.empty(); ++at) {
    std::vector<bool> seen(program_.size() + 1, false);
    std::vector<int32_t> open = std::move(waiting);
    waiting.clear();
    while (!open.empty()) {
      const int32_t i = open.back();
      open.pop_back();
      if (seen[static_cast<size_t>(i)]) continue;
      seen[static_cast<size_t>(i)] = true;
      if (i == end) return true;
      const Step& step = program_[static_cast<size_t>(i)];
      switch (step.kind) {
        case Step::Kind::kCharacter:
          if (at < name.size() && step.characters[static_cast<unsigned char>(name[at])]) {
            waiting.push_back(i + 1);
          }
          break;
        case Step::Kind::kFork:
          open.push_back(i + step.other);
          open.push_back(i + step.to);
          break;
        case Step::Kind::kJump:
          open.push_back(i + step.to);
          break;
        case Step::Kind::kBegin:
          if (at == 0) open.push_back(i + 1);
          break;
        case Step::Kind::kEnd:
          if (at == name.size()) open.push_back(i + 1);
          break;
      }
    }
  }
  return false;
}

}  // namespace salient
