#include "client/jobs/task_kind.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/enum_text.h"

namespace salient::client {

std::string TaskKindText(v1::TaskKind kind) {
  const std::string text = EnumText(kind);
  return text.empty() ? absl::StrCat("task ", static_cast<int>(kind)) : text;
}

absl::Status CheckServerDoes(const v1::GetServerInfoResponse& info, v1::TaskKind kind) {
  const auto& does = info.task_kinds();
  if (std::find(does.begin(), does.end(), static_cast<int>(kind)) != does.end()) {
    return absl::OkStatus();
  }
  std::vector<std::string> known;
  for (const int other : does) known.push_back(TaskKindText(static_cast<v1::TaskKind>(other)));
  return absl::UnimplementedError(absl::StrCat("this server does not ", TaskKindText(kind),
                                               "; what it does is ", absl::StrJoin(known, ", ")));
}

}  // namespace salient::client
