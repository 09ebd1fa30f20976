#include "server/jobs/model_manifest.h"

#include <map>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/config/model/model_config.h"
#include "core/model/families/family.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"
#include "server/jobs/job_sources.h"
#include "server/store/digest.h"

namespace salient {
namespace {

using FilesByName = std::map<absl::string_view, const ModelFile*>;

// Names become names of result files, in a directory of the client or of ours.
absl::Status CheckFileName(absl::string_view name) {
  if (IsModelFileName(name)) return absl::OkStatus();
  return InvalidCall(
      Reason::kBadModel,
      absl::StrCat("file name ", QuoteForMessage(name), "; expected 1 to ", kMaxFileNameBytes,
                   " bytes without a leading dot, separators and control characters"));
}

absl::StatusOr<FilesByName> ByName(absl::string_view field, absl::Span<const ModelFile> files) {
  FilesByName by_name;
  for (size_t i = 0; i < files.size(); ++i) {
    absl::Status status = CheckFileName(files[i].name);
    if (status.ok() && !by_name.emplace(files[i].name, &files[i]).second) {
      status = InvalidCall(Reason::kBadModel,
                           absl::StrCat("file ", files[i].name, " stands twice; expected once"));
    }
    if (!status.ok()) return WithField(status, absl::StrCat(field, ".files[", i, "].name"));
  }
  return by_name;
}

absl::StatusOr<std::string> ReadText(const ModelFile& file, int64_t max_bytes, BlobStore& store) {
  if (file.digest.size_bytes > max_bytes) {
    return InvalidCall(Reason::kBadModel, absl::StrCat(file.name, ": has ", file.digest.size_bytes,
                                                       " bytes; expected at most ", max_bytes));
  }
  if (file.inline_content.has_value()) {
    const Digest actual = DigestOf(*file.inline_content);
    if (actual == file.digest) return *file.inline_content;
    return InvalidCall(Reason::kDigestMismatch,
                       absl::StrCat(file.name, ": inline_content has digest ", ToString(actual),
                                    "; expected ", ToString(file.digest)));
  }
  if (!store.Status(file.digest).complete) {
    return CallError(absl::StatusCode::kFailedPrecondition, Reason::kMissingBlob,
                     absl::StrCat(file.name, ": blob ", ToString(file.digest),
                                  " is not here; expected it uploaded or inline"));
  }
  return ReadSource(file.name, file.digest, store);
}

absl::Status BadModel(const absl::Status& status) {
  return WithReason(status,
                    absl::IsUnimplemented(status) ? Reason::kUnsupported : Reason::kBadModel);
}

// The files that hold the weights, as Checkpoint::Open finds them in a directory.
absl::Status FindWeights(const FilesByName& files, BlobStore& store, ModelManifest& manifest) {
  const auto index = files.find(kShardIndexName);
  const auto single = files.find(kSingleFileName);
  if (index == files.end()) {
    if (single == files.end()) {
      return InvalidCall(Reason::kBadModel,
                         absl::StrCat("the manifest has neither ", kSingleFileName, " nor ",
                                      kShardIndexName, "; expected one of them"));
    }
    manifest.weights.push_back(*single->second);
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> text = ReadText(*index->second, kMaxShardIndexBytes, store);
  if (!text.ok()) return text.status();
  absl::StatusOr<ShardIndex> parsed = ParseShardIndex(kShardIndexName, *text);
  if (!parsed.ok()) return BadModel(parsed.status());
  absl::Status status = CheckIndexBesideFile(*parsed, single != files.end());
  if (!status.ok()) return BadModel(status);
  for (const std::string& name : parsed->files) {
    const auto found = files.find(name);
    if (found == files.end()) {
      return InvalidCall(Reason::kBadModel, absl::StrCat(kShardIndexName, ": names ", name,
                                                         "; expected it in the manifest"));
    }
    manifest.weights.push_back(*found->second);
  }
  manifest.index = *std::move(parsed);
  manifest.needed.push_back(index->second->digest);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelManifest> ReadManifest(absl::string_view field,
                                           absl::Span<const ModelFile> files, BlobStore& store) {
  absl::StatusOr<FilesByName> by_name = ByName(field, files);
  if (!by_name.ok()) return by_name.status();
  const auto config = by_name->find(kConfigName);
  if (config == by_name->end()) {
    return WithField(InvalidCall(Reason::kBadModel, absl::StrCat("the manifest has no ",
                                                                 kConfigName, "; expected one")),
                     absl::StrCat(field, ".files"));
  }
  absl::StatusOr<std::string> text = ReadText(*config->second, kMaxConfigBytes, store);
  if (!text.ok()) return WithField(text.status(), absl::StrCat(field, ".files"));
  absl::StatusOr<ModelConfig> parsed = ParseModelConfig(kConfigName, *text);
  if (!parsed.ok()) return WithField(BadModel(parsed.status()), absl::StrCat(field, ".files"));

  ModelManifest manifest;
  manifest.config_json = *std::move(text);
  absl::StatusOr<Model> model = PlanModel(*parsed);
  if (!model.ok()) return model.status();
  manifest.model = *std::move(model);
  manifest.needed.push_back(config->second->digest);
  if (absl::Status status = FindWeights(*by_name, store, manifest); !status.ok()) {
    return WithField(status, absl::StrCat(field, ".files"));
  }
  for (const auto& [name, file] : *by_name) {
    if (RoleOf(name) != FileRole::kCarried || file->digest.size_bytes > kMaxCarriedBytes) continue;
    manifest.carried.push_back(*file);
  }
  for (const ModelFile& file : manifest.weights) manifest.needed.push_back(file.digest);
  for (const ModelFile& file : manifest.carried) manifest.needed.push_back(file.digest);
  // They stand in their order, as a client uploads them: config, index, weights, the rest.
  std::vector<Digest> once;
  absl::flat_hash_set<Digest> seen;
  for (const Digest& digest : manifest.needed) {
    if (seen.insert(digest).second) once.push_back(digest);
  }
  manifest.needed = std::move(once);
  return manifest;
}

}  // namespace salient
