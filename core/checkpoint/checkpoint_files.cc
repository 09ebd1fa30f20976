#include "core/checkpoint/checkpoint_files.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/json.h"
#include "core/checkpoint/shard_index.h"

namespace salient {
namespace {

// The same weights for other readers, and what training leaves behind.
constexpr std::array<absl::string_view, 18> kOtherWeights = {
    ".bin",     ".ckpt",    ".ggml", ".gguf", ".h5",     ".llamafile",
    ".mlmodel", ".msgpack", ".nemo", ".npz",  ".onnx",   ".ot",
    ".pickle",  ".pkl",     ".pt",   ".pth",  ".tflite", ".onnx_data"};

// These would contradict, or be taken for, what is written anew. The last is common to the
// indices of other weights.
constexpr std::array<absl::string_view, 4> kOfOtherWeights = {
    "quantize_config.json", "quant_config.json", "hf_quant_config.json", ".index.json"};

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& directory) {
  DIR* const handle = opendir(directory.c_str());
  if (handle == nullptr && errno == ENOTDIR) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, ": is not a directory; expected that of a model"));
  }
  if (handle == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat(directory, ": cannot open"));
  }
  const absl::Cleanup close_directory = [handle] { closedir(handle); };
  std::vector<std::string> names;
  while (true) {
    errno = 0;  // the end and an error differ in nothing else
    const dirent* entry = readdir(handle);
    if (entry == nullptr) break;
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return absl::ErrnoToStatus(errno, absl::StrCat(directory, ": cannot read"));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

bool IsUtf8(absl::string_view text) { return ParseJson("", JsonQuote(text)).ok(); }

bool IsPlainFileName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxFileNameBytes && name.front() != '.' && IsUtf8(name) &&
         absl::c_none_of(
             name, [](unsigned char c) { return c == '/' || c == '\\' || c < 0x20 || c == 0x7F; });
}

FileRole RoleOf(absl::string_view name) {
  const auto ends_name = [name](absl::string_view end) { return absl::EndsWith(name, end); };
  if (!IsPlainFileName(name)) return FileRole::kLeftBehind;
  if (name == kConfigName) return FileRole::kConfig;
  if (name == kShardIndexName) return FileRole::kIndex;
  if (absl::EndsWith(name, ".safetensors")) {
    return absl::StartsWith(name, "consolidated") ? FileRole::kLeftBehind : FileRole::kWeights;
  }
  if (absl::c_any_of(kOtherWeights, ends_name)) return FileRole::kLeftBehind;
  if (absl::c_any_of(kOfOtherWeights, ends_name)) return FileRole::kLeftBehind;
  return FileRole::kCarried;
}

absl::StatusOr<std::vector<DirectoryFile>> ListModelDirectory(const std::string& directory) {
  const auto names = NamesIn(directory);
  if (!names.ok()) return names.status();
  const bool has_index = absl::c_linear_search(*names, kShardIndexName);
  std::vector<DirectoryFile> files;
  for (const std::string& name : *names) {
    const std::string path = absl::StrCat(directory, "/", name);
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      const int error = errno;
      // Gone since it was listed, or hidden: nobody misses it.
      if (lstat(path.c_str(), &info) != 0 || name.front() == '.') continue;
      return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot follow the link"));
    }
    if (!S_ISREG(info.st_mode)) continue;
    FileRole role = RoleOf(name);
    if (IsPlainFileName(name) && absl::EndsWith(name, ".safetensors")) {
      // An index may name any of them, whatever it is called.
      const bool may_be_read = has_index || name == kSingleFileName;
      role = may_be_read ? FileRole::kWeights : FileRole::kLeftBehind;
    }
    files.push_back({name, info.st_size, role});
  }
  return files;
}

}  // namespace salient
