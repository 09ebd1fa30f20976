#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/safetensors/entry.h"
#include "core/safetensors/safetensors.h"
#include "core/text/quote.h"

namespace salient {
namespace {

absl::StatusOr<std::map<std::string, std::string>> ReadMetadata(absl::string_view source,
                                                                const JsonValue& value) {
  std::map<std::string, std::string> metadata;
  if (value.IsNull()) return metadata;
  const JsonValue::Object* object = value.AsObject();
  if (object == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": __metadata__ is ", value.Describe(),
                                                   "; expected an object of strings"));
  }
  for (const auto& [key, item] : *object) {
    const std::string* text = item.AsString();
    if (text == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": __metadata__[",
                                                     QuoteForMessage(key), "] is ", item.Describe(),
                                                     "; expected a string"));
    }
    metadata.insert_or_assign(key, *text);
  }
  return metadata;
}

absl::Status CheckUnique(absl::string_view source, const std::vector<ReadTensorEntry>& tensors) {
  std::vector<absl::string_view> names;
  for (const ReadTensorEntry& tensor : tensors) names.push_back(tensor.entry.name);
  absl::c_sort(names);
  const auto twice = absl::c_adjacent_find(names);
  if (twice == names.end()) return absl::OkStatus();
  return InvalidTensorEntry(source, *twice, "stands twice; expected unique names");
}

// The tensors, sorted, must tile [0, data_bytes).
absl::Status CheckTiling(absl::string_view source, const std::vector<ReadTensorEntry>& tensors,
                         int64_t data_bytes) {
  int64_t position = 0;
  for (const ReadTensorEntry& read : tensors) {
    const TensorEntry& tensor = read.entry;
    if (tensor.begin != position) {
      return InvalidTensorEntry(source, tensor.name,
                                absl::StrCat("data_offsets begin at ", tensor.begin, "; expected ",
                                             position, ", where the tensor before it ends"));
    }
    position = tensor.end;
  }
  if (position == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", data_bytes,
                                                 " bytes follow the header; expected ", position,
                                                 ", the end of the last tensor"));
}

}  // namespace

const TensorEntry* SafetensorsHeader::Find(absl::string_view name) const {
  const auto found = absl::c_lower_bound(
      by_name_, name, [this](size_t i, absl::string_view key) { return tensors_[i].name < key; });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

absl::StatusOr<const TensorEntry*> SafetensorsHeader::Get(absl::string_view name) const {
  if (const TensorEntry* entry = Find(name)) return entry;
  if (const auto found = unreadable_.find(name); found != unreadable_.end()) {
    return InvalidTensorEntry(
        source_, name,
        absl::StrCat("dtype ", found->second, " is not read here; expected F32, ",
                     "F16 or BF16, or integers of a quantized model"));
  }
  return absl::NotFoundError(absl::StrCat(source_, ": tensor ", QuoteForMessage(name),
                                          " is missing; the file has ", tensors_.size(),
                                          " tensors"));
}

void SafetensorsHeader::SortNames() {
  by_name_.resize(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_[i] = i;
  absl::c_sort(by_name_,
               [this](size_t a, size_t b) { return tensors_[a].name < tensors_[b].name; });
}

void SafetensorsHeader::AddPrefix(absl::string_view prefix,
                                  absl::FunctionRef<bool(absl::string_view)> renames) {
  for (TensorEntry& tensor : tensors_) {
    if (renames(tensor.name)) tensor.name.insert(0, prefix.data(), prefix.size());
  }
  std::map<std::string, std::string, std::less<>> unreadable;
  for (auto& [name, dtype] : unreadable_) {
    unreadable.emplace(renames(name) ? absl::StrCat(prefix, name) : name, std::move(dtype));
  }
  unreadable_ = std::move(unreadable);
  SortNames();
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view source,
                                                         absl::string_view json,
                                                         int64_t data_bytes) {
  if (static_cast<int64_t>(json.size()) > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": header has ", json.size(),
                                                   " bytes; expected at most ",
                                                   kMaxSafetensorsHeaderBytes));
  }
  // Deep enough for what the reference accepts, and values for every tensor we accept.
  const JsonLimits limits = {/*max_depth=*/127, /*max_values=*/16 * kMaxSafetensorsTensors,
                             /*reject_duplicate_keys=*/false};
  const auto root = ParseJson(absl::StrCat(source, ": header"), json, limits);
  if (!root.ok()) return root.status();
  const JsonValue::Object* object = root->AsObject();
  if (object == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": header is ", root->Describe(), "; expected an object"));
  }

  SafetensorsHeader header;
  header.source_ = std::string(source);
  std::vector<ReadTensorEntry> read;
  bool has_metadata = false;
  for (const auto& [name, value] : *object) {
    if (name == "__metadata__") {
      if (has_metadata) {
        return absl::InvalidArgumentError(absl::StrCat(source, ": __metadata__ stands twice"));
      }
      has_metadata = true;
      auto metadata = ReadMetadata(source, value);
      if (!metadata.ok()) return metadata.status();
      header.metadata_ = *std::move(metadata);
      continue;
    }
    if (static_cast<int64_t>(read.size()) == kMaxSafetensorsTensors) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": header has more than ", kMaxSafetensorsTensors, " tensors, the limit"));
    }
    auto entry = ReadSafetensorsEntry(source, name, value);
    if (!entry.ok()) return entry.status();
    read.push_back(*std::move(entry));
  }

  std::stable_sort(
      read.begin(), read.end(), [](const ReadTensorEntry& a, const ReadTensorEntry& b) {
        return std::pair(a.entry.begin, a.entry.end) < std::pair(b.entry.begin, b.entry.end);
      });
  if (absl::Status status = CheckUnique(source, read); !status.ok()) return status;
  if (absl::Status status = CheckTiling(source, read, data_bytes); !status.ok()) return status;
  for (ReadTensorEntry& tensor : read) {
    if (tensor.unreadable.has_value()) {
      header.unreadable_.emplace(std::move(tensor.entry.name), *std::move(tensor.unreadable));
    } else {
      header.tensors_.push_back(std::move(tensor.entry));
    }
  }
  header.SortNames();
  return header;
}

}  // namespace salient
