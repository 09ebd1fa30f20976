#include "core/result/raised_group.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/durable_write.h"
#include "core/checkpoint/json.h"

namespace salient {
namespace {

// Of the record, which has some 200 bytes a group: more than any model has.
constexpr int64_t kMostBytes = int64_t{256} << 20;

std::string PathIn(const std::string& directory) { return absl::StrCat(directory, "/raised.json"); }

// Field `name` of an entry, 0 to `end` - 1; -1 if it is not that.
int64_t Number(const JsonValue& entry, absl::string_view name, int64_t end) {
  const JsonValue* value = entry.Find(name);
  const std::optional<int64_t> number = value == nullptr ? std::nullopt : value->AsInt64();
  return number.has_value() && *number >= 0 && *number < end ? *number : -1;
}

std::optional<RaisedGroup> Parse(const JsonValue& entry) {
  const int64_t output = Number(entry, "output", int64_t{1} << 31);
  const int64_t layer = Number(entry, "layer", int64_t{1} << 31);
  const int64_t role = Number(entry, "role", kGroupRoles);
  const int64_t bits = Number(entry, "bits", kRaisedToF16 + 1);
  const JsonValue* why = entry.Find("why");
  if (std::min({output, layer, role, bits}) < 0 || why == nullptr || why->AsString() == nullptr) {
    return std::nullopt;
  }
  return RaisedGroup{static_cast<size_t>(output), layer, static_cast<GroupRole>(role),
                     static_cast<int>(bits), *why->AsString()};
}

}  // namespace

absl::Status CheckErrorLimit(double max_relative_error) {
  if (std::isfinite(max_relative_error) && max_relative_error >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("max_relative_error is ", max_relative_error,
                                                 "; expected a number above 0, or 0 for no limit"));
}

absl::Status ApplyRaised(absl::Span<const RaisedGroup> raised, size_t output,
                         std::vector<BlockFits>& fits) {
  for (const RaisedGroup& group : raised) {
    if (group.output != output) continue;
    GroupFit& fit = fits[static_cast<size_t>(group.layer)][static_cast<size_t>(group.role)];
    if (group.bits == kRaisedToF16) {
      fit.fits = false;
      fit.why = group.why;
    } else {
      fit.format.bits = group.bits;
    }
  }
  for (const BlockFits& block : fits) {
    for (const GroupFit& fit : block) {
      if (fit.fits) return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      "max_relative_error leaves nothing quantized: every group's error is above it; expected a "
      "larger one");
}

absl::Status SaveRaised(const std::string& directory, absl::Span<const RaisedGroup> raised) {
  JsonValue::Array entries;
  for (const RaisedGroup& group : raised) {
    entries.emplace_back(JsonValue::Object{
        {"output", JsonValue(static_cast<int64_t>(group.output))},
        {"layer", JsonValue(group.layer)},
        {"role", JsonValue(static_cast<int64_t>(group.role))},
        {"bits", JsonValue(int64_t{group.bits})},
        {"why", JsonValue(group.why)},
    });
  }
  const std::string text = JsonText(JsonValue(std::move(entries)));
  const std::string path = PathIn(directory);
  const std::string growing = absl::StrCat(path, ".new");
  const int fd = open(growing.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return FileError(errno, growing, "create");
  absl::Status status = CloseAfter(fd, growing, WriteAt(fd, growing, 0, text.data(), text.size()));
  if (status.ok()) status = SyncPath(growing);
  if (!status.ok()) return status;
  if (std::rename(growing.c_str(), path.c_str()) != 0) return FileError(errno, path, "write");
  return SyncPath(directory);
}

absl::StatusOr<std::vector<RaisedGroup>> LoadRaised(const std::string& directory, int64_t layer) {
  const std::string path = PathIn(directory);
  std::vector<RaisedGroup> raised;
  const absl::StatusOr<std::string> text = ReadTextFile(path, kMostBytes);
  if (absl::IsNotFound(text.status())) return raised;
  if (!text.ok()) return text.status();
  const absl::StatusOr<JsonValue> document = ParseJson(path, *text);
  if (!document.ok()) return document.status();
  const JsonValue::Array* entries = document->AsArray();
  if (entries == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is ", document->Describe(), "; expected an array"));
  }
  for (size_t i = 0; i < entries->size(); ++i) {
    std::optional<RaisedGroup> group = Parse((*entries)[i]);
    if (!group.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": entry ", i, " is none of a group that was raised"));
    }
    if (group->layer < layer) raised.push_back(*std::move(group));
  }
  return raised;
}

}  // namespace salient
