#include "core/checkpoint/shard_index.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/config/json.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// The whole model has its decoder under this prefix, and the head beside it.
constexpr absl::string_view kDecoderPrefix = "model.";
constexpr absl::string_view kHeadPrefix = "lm_head.";

// Returns whether tensors are named as in a decoder that was saved alone.
bool LacksDecoderPrefix(absl::Span<SafetensorsHeader* const> headers) {
  bool has_layers = false;
  for (const SafetensorsHeader* header : headers) {
    for (const TensorEntry& entry : header->tensors()) {
      if (absl::StartsWith(entry.name, kDecoderPrefix)) return false;
      has_layers = has_layers || absl::StartsWith(entry.name, "layers.");
    }
  }
  return has_layers;
}

absl::Status UnequalCopies(absl::string_view tensor, absl::string_view file,
                           absl::string_view other_file) {
  return absl::InvalidArgumentError(
      absl::StrCat(other_file, ": tensor ", QuoteForMessage(tensor), " is also in ", file,
                   " and differs from it; expected it in one file, or equal"));
}

bool Has(const SafetensorsHeader& header, absl::string_view tensor) {
  return header.Find(tensor) != nullptr ||
         header.unreadable().find(tensor) != header.unreadable().end();
}

absl::Status CheckCopy(absl::string_view tensor, const SafetensorsHeader& first,
                       const SafetensorsHeader& other) {
  const TensorEntry* one = first.Find(tensor);
  const TensorEntry* copy = other.Find(tensor);
  // Nobody needs a copy of a tensor that is not read.
  if (one == nullptr && copy == nullptr) return absl::OkStatus();
  if (one != nullptr && copy != nullptr && one->dtype == copy->dtype && one->shape == copy->shape) {
    return absl::OkStatus();
  }
  return UnequalCopies(tensor, first.source(), other.source());
}

absl::Status CheckTensorName(absl::string_view source, absl::string_view tensor) {
  if (tensor.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": weight_map: a tensor has an empty name"));
  }
  if (tensor.size() > kMaxSafetensorsNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": weight_map: tensor ", QuoteForMessage(tensor), " has a name of ",
                     tensor.size(), " bytes; expected at most ", kMaxSafetensorsNameBytes));
  }
  return absl::OkStatus();
}

// Returns "model.layers.0.mlp.up_proj" for "model.layers.0.mlp.up_proj.qweight".
absl::string_view UnitOf(absl::string_view tensor) { return tensor.substr(0, tensor.rfind('.')); }

absl::Status CheckSizes(absl::Span<const TensorSize> tensors, int64_t max_shard_bytes) {
  if (tensors.empty()) return absl::InvalidArgumentError("no tensor to write; expected at least 1");
  if (max_shard_bytes < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_shard_bytes is ", max_shard_bytes, "; expected at least 1"));
  }
  std::vector<absl::string_view> names;
  for (const TensorSize& tensor : tensors) {
    if (tensor.name.empty()) return absl::InvalidArgumentError("a tensor has an empty name");
    if (tensor.bytes < 0) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", QuoteForMessage(tensor.name),
                                                     " has ", tensor.bytes,
                                                     " bytes; expected at least 0"));
    }
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", QuoteForMessage(*twice), " stands twice; expected once"));
}

// Writes it as the reference writer lays it out: two spaces, sorted keys, a line feed at the end.
std::string IndexJson(const ShardPlan& plan, absl::Span<const TensorSize> tensors) {
  std::vector<std::pair<absl::string_view, absl::string_view>> rows;
  for (const Shard& shard : plan.shards) {
    for (const size_t i : shard.tensors) rows.emplace_back(tensors[i].name, shard.file);
  }
  std::sort(rows.begin(), rows.end());
  JsonValue::Object weight_map;
  for (const auto& [tensor, file] : rows) {
    weight_map.emplace_back(tensor, JsonValue(std::string(file)));
  }
  return JsonText(JsonValue(JsonValue::Object{
      {"metadata",
       JsonValue(JsonValue::Object{{"total_size", JsonValue::Integer(plan.total_bytes)}})},
      {"weight_map", JsonValue(std::move(weight_map))}}));
}

}  // namespace

absl::Status CheckShardName(absl::string_view source, absl::string_view file) {
  if (IsPlainFileName(file) && absl::EndsWith(file, ".safetensors")) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      source, ": file name is ", QuoteForMessage(file), "; expected a name in the same directory, ",
      "ending in .safetensors, without separators and of at most ", kMaxFileNameBytes, " bytes"));
}

absl::StatusOr<ShardIndex> ParseShardIndex(absl::string_view source, absl::string_view json) {
  JsonLimits limits;
  limits.max_values = 2 * kMaxSafetensorsTensors;
  const auto document = ParseJson(source, json, limits);
  if (!document.ok()) return document.status();
  if (document->AsObject() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": is ", document->Describe(), "; expected an object"));
  }
  const JsonValue* map = document->Find("weight_map");
  if (map == nullptr || map->AsObject() == nullptr || map->AsObject()->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": weight_map is ",
                                                   map == nullptr ? "missing" : map->Describe(),
                                                   "; expected an object of tensor: file"));
  }
  ShardIndex index;
  index.source = std::string(source);
  for (const auto& [tensor, value] : *map->AsObject()) {
    if (absl::Status status = CheckTensorName(source, tensor); !status.ok()) return status;
    const std::string* file = value.AsString();
    const std::string field = absl::StrCat(source, ": weight_map[", QuoteForMessage(tensor), "]");
    if (file == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, " is ", value.Describe(), "; expected the name of a file"));
    }
    if (absl::Status status = CheckShardName(field, *file); !status.ok()) return status;
    index.files.push_back(*file);
  }
  std::sort(index.files.begin(), index.files.end());
  index.files.erase(std::unique(index.files.begin(), index.files.end()), index.files.end());
  if (index.files.size() > kMaxShards) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": weight_map names ",
                                                   index.files.size(), " files; expected at most ",
                                                   kMaxShards));
  }
  for (const auto& [tensor, value] : *map->AsObject()) {
    const auto file = std::lower_bound(index.files.begin(), index.files.end(), *value.AsString());
    index.weight_map.emplace_back(tensor, static_cast<size_t>(file - index.files.begin()));
  }
  std::sort(index.weight_map.begin(), index.weight_map.end());
  return index;
}

absl::Status CheckIndexBesideFile(const ShardIndex& index, bool has_single_file) {
  if (!has_single_file || index.files == std::vector<std::string>{kSingleFileName}) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(index.source, ": names other files than ", kSingleFileName,
                   ", which is there, too; expected one of them: engines disagree on which they "
                   "read"));
}

absl::Status CheckCopies(absl::string_view tensor, int64_t size_bytes, const TensorCopy& first,
                         const TensorCopy& other) {
  constexpr int64_t kRangeBytes = int64_t{1} << 20;
  std::vector<std::byte> one;
  std::vector<std::byte> copy;
  for (int64_t offset = 0; offset < size_bytes; offset += kRangeBytes) {
    one.resize(static_cast<size_t>(std::min(kRangeBytes, size_bytes - offset)));
    copy.resize(one.size());
    absl::Status status = first.read(offset, absl::MakeSpan(one));
    if (status.ok()) status = other.read(offset, absl::MakeSpan(copy));
    if (!status.ok()) return status;
    if (one != copy) return UnequalCopies(tensor, first.file, other.file);
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorPlaces> PlaceTensors(const ShardIndex* index,
                                          absl::Span<SafetensorsHeader* const> headers) {
  std::map<std::string, size_t> first;
  if (index != nullptr) {
    if (headers.size() != index->files.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          index->source, ": ", headers.size(), " headers for ", index->files.size(), " files"));
    }
    for (const auto& [tensor, file] : index->weight_map) {
      if (!Has(*headers[file], tensor)) {
        return absl::InvalidArgumentError(
            absl::StrCat(headers[file]->source(), ": tensor ", QuoteForMessage(tensor),
                         " is missing; expected it here, as ", index->source, " says"));
      }
      first.emplace(tensor, file);
    }
  }
  TensorPlaces places;
  for (size_t i = 0; i < headers.size(); ++i) {
    std::vector<std::string> names;
    for (const TensorEntry& entry : headers[i]->tensors()) names.push_back(entry.name);
    for (const auto& [name, dtype] : headers[i]->unreadable()) names.push_back(name);
    for (std::string& name : names) {
      const auto [found, is_new] = first.emplace(name, i);
      if (is_new || found->second == i) continue;
      absl::Status status = CheckCopy(name, *headers[found->second], *headers[i]);
      if (!status.ok()) return status;
      if (headers[i]->Find(name) != nullptr) places.copies.emplace_back(std::move(name), i);
    }
  }
  places.first.assign(first.begin(), first.end());
  if (!LacksDecoderPrefix(headers)) return places;
  const auto renames = [](absl::string_view name) { return !absl::StartsWith(name, kHeadPrefix); };
  for (SafetensorsHeader* header : headers) header->AddPrefix(kDecoderPrefix, renames);
  for (std::vector<TensorPlace>* list : {&places.first, &places.copies}) {
    for (auto& [tensor, file] : *list) {
      if (renames(tensor)) tensor.insert(0, kDecoderPrefix.data(), kDecoderPrefix.size());
    }
    std::sort(list->begin(), list->end());
  }
  return places;
}

absl::StatusOr<ShardPlan> PlanShards(absl::Span<const TensorSize> tensors,
                                     int64_t max_shard_bytes) {
  if (absl::Status status = CheckSizes(tensors, max_shard_bytes); !status.ok()) return status;
  ShardPlan plan;
  for (size_t first = 0; first < tensors.size();) {
    size_t last = first;  // It is one past the unit.
    int64_t bytes = 0;
    while (last < tensors.size() && UnitOf(tensors[last].name) == UnitOf(tensors[first].name)) {
      bytes += tensors[last++].bytes;
    }
    if (plan.shards.empty() || (!plan.shards.back().tensors.empty() &&
                                plan.shards.back().bytes > max_shard_bytes - bytes)) {
      plan.shards.emplace_back();
    }
    Shard& shard = plan.shards.back();
    for (; first < last; ++first) shard.tensors.push_back(first);
    shard.bytes += bytes;
    plan.total_bytes += bytes;
  }
  if (plan.shards.size() > kMaxShards) {
    return absl::ResourceExhaustedError(absl::StrCat("a limit of ", max_shard_bytes,
                                                     " bytes a file gives ", plan.shards.size(),
                                                     " files; expected at most ", kMaxShards));
  }
  if (plan.shards.size() == 1) {
    plan.shards.front().file = kSingleFileName;
    return plan;
  }
  for (size_t i = 0; i < plan.shards.size(); ++i) {
    plan.shards[i].file =
        absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, plan.shards.size());
  }
  plan.index_json = IndexJson(plan, tensors);
  return plan;
}

}  // namespace salient
