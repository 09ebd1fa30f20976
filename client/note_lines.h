// What servers remark about groups, so that people can read it.
#ifndef SALIENT_CLIENT_NOTE_LINES_H_
#define SALIENT_CLIENT_NOTE_LINES_H_

#include <string>

#include "absl/types/span.h"
#include "salient/v1/report.pb.h"

namespace salient::client {

// A line "note: NAME: TEXT" for each kind of note: those that say the same of modules that differ
// in the numbers of their blocks alone are one line, "note: 5 of model.layers.*.mlp.down_proj:
// TEXT".
std::string NoteLines(absl::Span<const v1::GroupReport> groups);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_NOTE_LINES_H_
