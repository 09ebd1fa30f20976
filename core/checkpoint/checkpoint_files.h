// What a model directory holds beside weights, and what of it a quantized model takes along.
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

enum class FileRole {
  kWeights,    // a safetensors file that holds the model: read
  kIndex,      // model.safetensors.index.json: read, and written anew
  kConfig,     // config.json: read, and written anew
  kCarried,    // tokenizer, templates, code, licences: taken along as they are
  kLeftBehind  // other weights (*.bin, *.pth, *.gguf, consolidated*.safetensors ...), what says how
               // they were quantized (quantize_config.json), hidden files, names that are not UTF-8
};

// By its name inside the directory. Where there is an index, only the files that it names are
// weights; the caller knows.
FileRole RoleOf(absl::string_view name);

struct DirectoryFile {
  std::string name;
  int64_t size_bytes = 0;
  FileRole role = FileRole::kLeftBehind;
};

// Whether `text` is UTF-8, as all texts of the protocol are.
bool IsUtf8(absl::string_view text);

// Whether a file of this name lies in the directory that it is asked for in, and is no hidden one:
// UTF-8, not empty, at most kMaxFileNameBytes, no leading dot, no separator, no control character.
bool IsPlainFileName(absl::string_view name);

// The regular files directly inside `directory`, sorted by name, following links. Without an index
// model.safetensors alone is weights, and other safetensors files are left behind; with one, every
// safetensors file that it may name counts as weights.
//
// Errors: NOT_FOUND, also for a link that leads nowhere; PERMISSION_DENIED; INVALID_ARGUMENT if it
// is no directory.
absl::StatusOr<std::vector<DirectoryFile>> ListModelDirectory(const std::string& directory);

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_CHECKPOINT_FILES_H_
