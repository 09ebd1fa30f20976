#include "server/jobs/tokenizer_files.h"

#include <optional>
#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/token_ids.h"
#include "core/config/json.h"
#include "server/jobs/job.h"
#include "server/jobs/job_sources.h"
#include "server/jobs/prepared_model.h"

namespace salient {
namespace {

// Returns the text of a file beside the model; nullopt if there is none of this name.
absl::StatusOr<std::optional<std::string>> ReadBeside(absl::string_view name, RunningJob& job) {
  const PreparedModel& model = job.prepared.model;
  if (!model.path.empty()) {
    auto text = ReadTextFile(absl::StrCat(model.path, "/", name), kMaxCarriedBytes);
    if (absl::IsNotFound(text.status())) return std::nullopt;
    return text;
  }
  const auto& carried = model.manifest.carried;
  const auto file = absl::c_find_if(carried, [&](const ModelFile& f) { return f.name == name; });
  if (file == carried.end()) return std::nullopt;
  if (file->inline_content.has_value()) return file->inline_content;
  if (file->digest.size_bytes > kMaxCarriedBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": file has ", file->digest.size_bytes,
                                                   " bytes; expected at most ", kMaxCarriedBytes));
  }
  absl::Status arrived = job.arrival.WaitUntilComplete(file->name, file->digest);
  if (!arrived.ok()) return arrived;
  return ReadSource(file->name, file->digest, job.store);
}

}  // namespace

absl::StatusOr<int64_t> ReadHighestTokenId(RunningJob& job) {
  const auto keep_going = [&job] { return job.stop.Check(); };
  const JsonInterrupt interrupt(keep_going);
  TokenIds ids;
  for (const absl::string_view name : kTokenIdFiles) {
    const absl::StatusOr<std::optional<std::string>> text = ReadBeside(name, job);
    if (!text.ok()) return text.status();
    if (!text->has_value()) continue;
    if (absl::Status status = ids.Add(name, **text); !status.ok()) return status;
  }
  if (const std::optional<int64_t> highest = ids.Highest(); highest.has_value()) return *highest;
  return absl::NotFoundError(
      absl::StrCat("a ", kTokenIdFiles[0], " or ", kTokenIdFiles[1],
                   " beside the model would tell, and there is none with a vocabulary"));
}

}  // namespace salient
