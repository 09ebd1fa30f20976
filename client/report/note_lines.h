// Makes what servers remark about groups readable.
#ifndef SALIENT_CLIENT_REPORT_NOTE_LINES_H_
#define SALIENT_CLIENT_REPORT_NOTE_LINES_H_

#include <string>

#include "absl/types/span.h"
#include "salient/v1/report.pb.h"

namespace salient::client {

// Returns a line "note: NAME: TEXT" for each kind of note. Notes that say the same of modules which
// differ only in the numbers of their blocks share a line, "note: 5 of
// model.layers.*.mlp.down_proj: TEXT".
std::string NoteLines(absl::Span<const v1::GroupReport> groups);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_REPORT_NOTE_LINES_H_
