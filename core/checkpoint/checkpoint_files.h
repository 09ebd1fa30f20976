// Says what a model directory holds beside weights, and what of it a quantized model takes along.
#ifndef SALIENT_CORE_CHECKPOINT_CHECKPOINT_FILES_H_
#define SALIENT_CORE_CHECKPOINT_CHECKPOINT_FILES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient {

inline constexpr char kConfigName[] = "config.json";
inline constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
inline constexpr size_t kMaxFileNameBytes = 255;
// Larger files are data and are not taken along: the largest tokenizers have some 30 MiB.
inline constexpr int64_t kMaxCarriedBytes = int64_t{128} << 20;

enum class FileRole {
  kWeights,  // It is a safetensors file that holds the model, and is read.
  kIndex,    // It is model.safetensors.index.json, which is read, and written anew.
  kConfig,   // It is config.json, which is read, and written anew.
  // It is a tokenizer, template, configuration, code or licence, which is taken along as it is.
  kCarried,
  // Anything else: the model card, which speaks of other weights, adapters, what says how other
  // weights were quantized (quantize_config.json), data, hidden files, names that are not UTF-8.
  kLeftBehind,
  // It holds weights of the same model: *.bin, *.pth, *.gguf, consolidated*.safetensors ...
  kOtherWeights
};

// Returns the role by the name inside the directory, which may be one in a subdirectory. Where
// there is an index, only the files that it names are weights; the caller knows.
FileRole RoleOf(absl::string_view name);

struct DirectoryFile {
  // It is e.g. "tokenizer.json" or "1_Pooling/config.json"; "runs/" is a directory.
  std::string name;
  int64_t size_bytes = 0;
  FileRole role = FileRole::kLeftBehind;
};

// Returns whether a file of this name lies in the directory itself and is not hidden: UTF-8, not
// empty, at most kMaxFileNameBytes, no leading dot, no separator, no control character.
bool IsPlainFileName(absl::string_view name);

// Returns whether it is that, or "SUBDIRECTORY/NAME" of two such names, for subdirectories that are
// carried: additional_chat_templates, and what modules.json names, such as 1_Pooling.
bool IsModelFileName(absl::string_view name);

// Returns the regular files inside `directory` and its subdirectories of IsModelFileName, and the
// names of its other subdirectories, which are left behind; sorted by name, following links.
// Without an index model.safetensors alone is weights, and other safetensors files are left behind;
// with one, every safetensors file that it may name counts as weights. What is larger than
// kMaxCarriedBytes is not carried.
//
// Errors: NOT_FOUND, also for a link that leads nowhere; PERMISSION_DENIED; INVALID_ARGUMENT if it
// is no directory.
absl::StatusOr<std::vector<DirectoryFile>> ListModelDirectory(const std::string& directory);

// Returns "the result is without README.md, runs/ and 3 more: only ... are taken along"; empty if
// nothing but hidden files and weights of other forms is left behind.
std::string DescribeLeftBehind(const std::vector<DirectoryFile>& files);

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_CHECKPOINT_FILES_H_
