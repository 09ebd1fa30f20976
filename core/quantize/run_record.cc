#include "core/quantize/run_record.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/config/json.h"
#include "core/file/durable_write.h"

namespace salient {
namespace {

// The record has some 200 bytes a group, so this is more than any model needs.
constexpr int64_t kMostBytes = int64_t{256} << 20;

std::string PathIn(const std::string& directory) { return absl::StrCat(directory, "/record.json"); }

// Returns field `name` of an entry, 0 to `end` - 1; -1 if it is not that.
int64_t Number(const JsonValue& entry, absl::string_view name, int64_t end) {
  const JsonValue* value = entry.Find(name);
  const std::optional<int64_t> number = value == nullptr ? std::nullopt : value->AsInt64();
  return number.has_value() && *number >= 0 && *number < end ? *number : -1;
}

std::optional<RaisedGroup> ParseRaised(const JsonValue& entry) {
  const int64_t output = Number(entry, "output", int64_t{1} << 31);
  const int64_t layer = Number(entry, "layer", int64_t{1} << 31);
  const JsonValue* group = entry.Find("group");
  const int64_t bits = Number(entry, "bits", kRaisedToF16 + 1);
  const JsonValue* why = entry.Find("why");
  if (std::min({output, layer, bits}) < 0 || why == nullptr || why->AsString() == nullptr) {
    return std::nullopt;
  }
  if (group == nullptr || group->AsString() == nullptr) return std::nullopt;
  return RaisedGroup{static_cast<size_t>(output), layer, *group->AsString(), static_cast<int>(bits),
                     *why->AsString()};
}

std::optional<ActivationRange> ParseRange(const JsonValue& document) {
  const JsonValue* largest = document.Find("largest");
  const JsonValue* where = document.Find("where");
  if (largest == nullptr || !largest->AsDouble().has_value()) return std::nullopt;
  if (where == nullptr || where->AsString() == nullptr) return std::nullopt;
  return ActivationRange{static_cast<float>(*largest->AsDouble()), *where->AsString()};
}

}  // namespace

absl::Status SaveRecord(const std::string& directory, const RunRecord& record) {
  JsonValue::Array raised;
  for (const RaisedGroup& group : record.raised) {
    raised.emplace_back(JsonValue::Object{
        {"output", JsonValue(static_cast<int64_t>(group.output))},
        {"layer", JsonValue(group.layer)},
        {"group", JsonValue(group.group)},
        {"bits", JsonValue(int64_t{group.bits})},
        {"why", JsonValue(group.why)},
    });
  }
  const std::string text = JsonText(JsonValue(JsonValue::Object{
      {"raised", JsonValue(std::move(raised))},
      {"largest", JsonValue(static_cast<double>(record.range.largest))},
      {"where", JsonValue(record.range.where)},
  }));
  return WriteDurably(PathIn(directory), text);
}

absl::StatusOr<RunRecord> LoadRecord(const std::string& directory, int64_t layer) {
  const std::string path = PathIn(directory);
  RunRecord record;
  const absl::StatusOr<std::string> text = ReadTextFile(path, kMostBytes);
  if (absl::IsNotFound(text.status())) return record;
  if (!text.ok()) return text.status();
  const absl::StatusOr<JsonValue> document = ParseJson(path, *text);
  if (!document.ok()) return document.status();
  const JsonValue* raised = document->Find("raised");
  const JsonValue::Array* entries = raised == nullptr ? nullptr : raised->AsArray();
  std::optional<ActivationRange> range = ParseRange(*document);
  if (entries == nullptr || !range.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": expected an object with raised, an array, largest, a number, and where, a string"));
  }
  record.range = *std::move(range);
  for (size_t i = 0; i < entries->size(); ++i) {
    std::optional<RaisedGroup> group = ParseRaised((*entries)[i]);
    if (!group.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": raised[", i, "] is none of a group that was raised"));
    }
    if (group->layer < layer) record.raised.push_back(*std::move(group));
  }
  return record;
}

}  // namespace salient
