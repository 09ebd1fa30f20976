#include "core/checkpoint/model_directory.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/shard_index.h"
#include "core/config/json.h"
#include "core/safetensors/file_kind.h"
#include "core/text/quote.h"

namespace salient {
namespace {

namespace fs = std::filesystem;

constexpr char kAdapterConfig[] = "adapter_config.json";
constexpr char kConvert[] =
    "; expected model.safetensors: load the model in transformers and save it by save_pretrained";

// Returns the sorted names in a directory; none if it cannot be read, for others will say why.
std::vector<std::string> NamesInside(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A link counts wherever it leads: whoever opens it says what is wrong with it.
bool IsThere(const std::string& directory, absl::string_view name) {
  std::error_code error;
  return fs::exists(fs::symlink_status(absl::StrCat(directory, "/", name), error));
}

// Tells whether it is "org/name", which a path to a directory may be as well.
bool IsHubName(absl::string_view path) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  return parts.size() == 2 && absl::c_all_of(parts, [](absl::string_view part) {
           return !part.empty() && part.front() != '.' && part.front() != '~' &&
                  absl::c_all_of(part, [](unsigned char c) {
                    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
                  });
         });
}

absl::Status NotThere(const std::string& path) {
  if (!IsHubName(path)) {
    return absl::NotFoundError(
        absl::StrCat(path, ": is not there; expected the directory of a model"));
  }
  return absl::NotFoundError(absl::StrCat(
      path,
      ": is no directory here; expected that of a model, for models are read from disk: to "
      "download one of this name, hf download ",
      path, " --local-dir DIRECTORY"));
}

absl::Status NoDirectory(const std::string& path) {
  std::string begin(8, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  begin.resize(static_cast<size_t>(file.gcount()));
  const absl::string_view kind = KindOfFile(begin);
  const bool is_of_model = absl::EndsWith(path, ".safetensors") || absl::EndsWith(path, ".json");
  if (is_of_model || kind.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": is not a directory; expected that of a model, with config.json and "
                     "model.safetensors"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": is no directory of a model; it seems to be ", kind));
}

// Returns the name of the newest revision in a download cache.
std::string Revision(const std::string& cache, const std::vector<std::string>& revisions) {
  const auto main = ReadTextFile(absl::StrCat(cache, "/refs/main"), 256);
  const std::string named = main.ok() ? std::string(absl::StripAsciiWhitespace(*main)) : "";
  return absl::c_linear_search(revisions, named) ? named : revisions.front();
}

std::string BaseModel(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kAdapterConfig);
  const auto text = ReadTextFile(path, kMaxConfigBytes);
  const auto config = text.ok() ? ParseJson(path, *text) : text.status();
  const JsonValue* base = config.ok() ? config->Find("base_model_name_or_path") : nullptr;
  if (base == nullptr || base->AsString() == nullptr) return "a model";
  return QuoteForMessage(*base->AsString());
}

// Says what a directory that lacks config.json or weights is instead, if that is known.
std::optional<std::string> OtherKind(const std::string& path,
                                     const std::vector<std::string>& names) {
  // A link could lead out of what the caller may see.
  std::error_code error;
  const std::string snapshots = absl::StrCat(path, "/snapshots");
  std::vector<std::string> revisions;
  if (fs::is_directory(fs::symlink_status(snapshots, error))) revisions = NamesInside(snapshots);
  if (!revisions.empty()) {
    return absl::StrCat("is the root of a download cache; expected ", path, "/snapshots/",
                        Revision(path, revisions));
  }
  const auto cached = absl::c_find_if(
      names, [](const std::string& name) { return absl::StartsWith(name, "models--"); });
  if (cached != names.end()) {
    return absl::StrCat("is a download cache of whole models; expected one of them, such as ", path,
                        "/", *cached, "/snapshots/REVISION");
  }
  if (IsThere(path, kAdapterConfig)) {
    return absl::StrCat("holds an adapter of ", BaseModel(path),
                        "; expected a whole model: merge the adapter into it first "
                        "(merge_and_unload of peft) and save that");
  }
  if (IsThere(path, "model_index.json")) {
    return "holds a pipeline of several models; expected the directory of one of them";
  }
  return std::nullopt;
}

std::optional<std::string> Ending(const std::vector<std::string>& names, absl::string_view end) {
  for (const std::string& name : names) {
    if (absl::EndsWith(name, end)) return name;
  }
  return std::nullopt;
}

// Returns the error of a directory that has config.json alone.
absl::Status NoWeights(const std::string& path, const std::vector<std::string>& names) {
  for (const absl::string_view end : {".bin", ".pth", ".pt", ".msgpack", ".h5"}) {
    // Arguments of the trainer lie beside weights.
    const std::optional<std::string> other = Ending(names, end);
    if (!other.has_value() || *other == "training_args.bin") continue;
    return absl::NotFoundError(
        absl::StrCat(path, ": has ", *other, ", which is not read", kConvert));
  }
  if (const std::optional<std::string> gguf = Ending(names, ".gguf"); gguf.has_value()) {
    return absl::NotFoundError(absl::StrCat(path, ": has ", *gguf,
                                            ", which only llama.cpp reads; expected the ",
                                            kSingleFileName, " that it was made from"));
  }
  if (const std::optional<std::string> shard = Ending(names, ".safetensors"); shard.has_value()) {
    return absl::NotFoundError(absl::StrCat(path, ": has ", *shard, " but neither ",
                                            kSingleFileName, " nor ", kShardIndexName,
                                            "; expected one of them, as a model has that was "
                                            "downloaded whole"));
  }
  return absl::NotFoundError(absl::StrCat(path, ": has neither ", kSingleFileName, " nor ",
                                          kShardIndexName, "; expected one of them"));
}

}  // namespace

absl::Status CheckIsModelDirectory(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return NotThere(path);
  if (fs::exists(status) && !fs::is_directory(status)) return NoDirectory(path);
  const bool has_config = IsThere(path, kConfigName);
  const bool has_weights = IsThere(path, kSingleFileName) || IsThere(path, kShardIndexName);
  if (has_config && has_weights) return absl::OkStatus();
  const std::vector<std::string> names = NamesInside(path);
  if (const std::optional<std::string> other = OtherKind(path, names); other.has_value()) {
    return absl::NotFoundError(absl::StrCat(path, ": ", *other));
  }
  if (has_config) return NoWeights(path, names);
  const std::optional<std::string> gguf = Ending(names, ".gguf");
  return absl::NotFoundError(absl::StrCat(
      path, "/", kConfigName, ": is not there; expected it in the directory of a model",
      gguf.has_value() ? absl::StrCat("; ", *gguf, " is read by llama.cpp only") : ""));
}

}  // namespace salient
