#include "client/report/note_lines.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/terminal/errors.h"

namespace salient::client {
namespace {

constexpr size_t kMaxNoteNameBytes = 128;

// The text says something of `name`, with which it may begin.
struct Note {
  std::string name;
  std::string text;
};

Note ParseNote(const v1::GroupReport& group, absl::string_view note) {
  const size_t colon = note.find(": ");
  const absl::string_view begin = note.substr(0, colon);
  bool is_name = begin == group.name();
  for (const v1::LinearReport& linear : group.linears()) is_name |= begin == linear.name();
  if (!is_name || colon == note.npos) return {group.name(), std::string(note)};
  return {std::string(begin), std::string(note.substr(colon + 2))};
}

// Returns "model.layers.*.mlp.down_proj".
std::string KindOf(absl::string_view name) {
  std::vector<absl::string_view> parts = absl::StrSplit(name, '.');
  for (absl::string_view& part : parts) {
    const bool is_number = !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c));
    });
    if (is_number) part = "*";
  }
  return absl::StrJoin(parts, ".");
}

struct KindOfNote {
  std::string directory;
  std::string kind;
  std::string text;
  std::string name;  // It is that of the first.
  int64_t count = 0;
};

}  // namespace

std::string NoteLines(absl::Span<const v1::GroupReport> groups) {
  std::vector<KindOfNote> kinds;
  for (const v1::GroupReport& group : groups) {
    for (const std::string& said : group.notes()) {
      const Note note = ParseNote(group, said);
      const std::string kind = KindOf(note.name);
      auto known = std::find_if(kinds.begin(), kinds.end(), [&](const KindOfNote& other) {
        return other.directory == group.directory() && other.kind == kind &&
               other.text == note.text;
      });
      if (known == kinds.end()) {
        known = kinds.insert(kinds.end(), {group.directory(), kind, note.text, note.name, 0});
      }
      ++known->count;
    }
  }
  std::string lines;
  for (const KindOfNote& kind : kinds) {
    absl::StrAppend(&lines, "note: ");
    if (!kind.directory.empty()) {
      absl::StrAppend(&lines, Printable(kind.directory, kMaxNoteNameBytes), ": ");
    }
    if (kind.count > 1) absl::StrAppend(&lines, kind.count, " of ");
    absl::StrAppend(&lines, Printable(kind.count > 1 ? kind.kind : kind.name, kMaxNoteNameBytes),
                    ": ", Printable(kind.text, kMaxSentenceBytes), "\n");
  }
  return lines;
}

}  // namespace salient::client
