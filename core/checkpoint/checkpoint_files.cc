#include "core/checkpoint/checkpoint_files.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/checkpoint/shard_index.h"
#include "core/config/json.h"
#include "core/text/quote.h"
#include "core/text/utf8.h"

namespace salient {
namespace {

// These hold the same weights for other readers, and what training leaves behind.
constexpr std::array<absl::string_view, 18> kOtherWeights = {
    ".bin",     ".ckpt",    ".ggml", ".gguf", ".h5",     ".llamafile",
    ".mlmodel", ".msgpack", ".nemo", ".npz",  ".onnx",   ".ot",
    ".pickle",  ".pkl",     ".pt",   ".pth",  ".tflite", ".onnx_data"};

constexpr absl::string_view kOtherIndex = ".index.json";

// These would contradict what is written anew, or are of weights that are left behind.
constexpr std::array<absl::string_view, 5> kOfOtherWeights = {
    "quantize_config.json", "quant_config.json", "hf_quant_config.json", "adapter_config.json",
    "trainer_state.json"};

// Tokenizers, templates, configuration and code have names that end so.
constexpr std::array<absl::string_view, 11> kCarriedEnds = {
    ".json", ".jinja", ".model", ".txt",    ".tiktoken", ".vocab",
    ".spm",  ".bpe",   ".codes", ".jinja2", ".py"};

// Names of licences and what belongs to them have these words, in lower case, anywhere.
constexpr std::array<absl::string_view, 8> kLicenceWords = {
    "license", "licence", "notice", "copying", "copyright", "policy", "terms", "patents"};

constexpr char kTemplates[] = "additional_chat_templates";

// Tells names like "1_Pooling", as sentence-transformers calls what modules.json names.
bool IsModuleDirectory(absl::string_view name) {
  const size_t digits = name.find_first_not_of("0123456789");
  return digits != name.npos && digits > 0 && name[digits] == '_' && digits + 1 < name.size();
}

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
    errno = 0;  // The end and an error differ in nothing else.
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

bool IsPlainFileName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxFileNameBytes && name.front() != '.' && IsUtf8(name) &&
         absl::c_none_of(
             name, [](unsigned char c) { return c == '/' || c == '\\' || c < 0x20 || c == 0x7F; });
}

bool IsModelFileName(absl::string_view name) {
  const size_t slash = name.find('/');
  if (slash == name.npos) return IsPlainFileName(name);
  const absl::string_view directory = name.substr(0, slash);
  return IsPlainFileName(name.substr(slash + 1)) && IsPlainFileName(directory) &&
         (directory == kTemplates || IsModuleDirectory(directory));
}

FileRole RoleOf(absl::string_view name) {
  const auto ends_name = [name](absl::string_view end) { return absl::EndsWith(name, end); };
  if (!IsModelFileName(name)) return FileRole::kLeftBehind;
  if (absl::StrContains(name, '/')) {
    // A module may have weights of its own.
    const bool carried = !absl::StartsWith(name, kTemplates) || absl::EndsWith(name, ".jinja");
    return carried ? FileRole::kCarried : FileRole::kLeftBehind;
  }
  if (name == kConfigName) return FileRole::kConfig;
  if (name == kShardIndexName) return FileRole::kIndex;
  if (absl::EndsWith(name, ".safetensors")) {
    return absl::StartsWith(name, "consolidated") ? FileRole::kOtherWeights : FileRole::kWeights;
  }
  if (absl::EndsWith(name, kOtherIndex)) return FileRole::kOtherWeights;
  if (absl::c_any_of(kOtherWeights, ends_name)) return FileRole::kOtherWeights;
  if (absl::c_linear_search(kOfOtherWeights, name)) return FileRole::kLeftBehind;
  if (absl::c_any_of(kCarriedEnds, ends_name)) return FileRole::kCarried;
  const std::string lower = absl::AsciiStrToLower(name);
  return absl::c_any_of(kLicenceWords,
                        [&](absl::string_view word) { return absl::StrContains(lower, word); })
             ? FileRole::kCarried
             : FileRole::kLeftBehind;
}

namespace {

// Returns what is at `path`; nullopt if it is gone since it was listed, or hidden.
absl::StatusOr<std::optional<struct stat>> Follow(const std::string& path, absl::string_view name) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0) return info;
  const int error = errno;
  if (lstat(path.c_str(), &info) != 0 || name.front() == '.') return std::nullopt;
  if (error == ELOOP) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is a link that leads back to itself; expected a file"));
  }
  return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot follow the link"));
}

}  // namespace

absl::StatusOr<std::vector<DirectoryFile>> ListModelDirectory(const std::string& directory) {
  const auto names = NamesIn(directory);
  if (!names.ok()) return names.status();
  const bool has_index = absl::c_linear_search(*names, kShardIndexName);
  std::vector<DirectoryFile> files;
  const auto add = [&](std::string name, const struct stat& info, FileRole role) {
    const bool too_large = role == FileRole::kCarried && info.st_size > kMaxCarriedBytes;
    files.push_back({std::move(name), info.st_size, too_large ? FileRole::kLeftBehind : role});
  };
  for (const std::string& name : *names) {
    const std::string path = absl::StrCat(directory, "/", name);
    const auto info = Follow(path, name);
    if (!info.ok()) return info.status();
    if (!info->has_value()) continue;
    if (S_ISDIR((*info)->st_mode)) {
      if (!IsModelFileName(absl::StrCat(name, "/x"))) {
        files.push_back({absl::StrCat(name, "/"), 0, FileRole::kLeftBehind});
        continue;
      }
      const auto inside = NamesIn(path);
      if (!inside.ok()) return inside.status();
      for (const std::string& file : *inside) {
        const auto nested = Follow(absl::StrCat(path, "/", file), file);
        if (!nested.ok()) return nested.status();
        std::string whole = absl::StrCat(name, "/", file);
        if (!nested->has_value() || !S_ISREG((*nested)->st_mode)) continue;
        const FileRole role = RoleOf(whole);
        add(std::move(whole), **nested, role);
      }
      continue;
    }
    if (!S_ISREG((*info)->st_mode)) continue;
    FileRole role = RoleOf(name);
    if (IsPlainFileName(name) && absl::EndsWith(name, ".safetensors")) {
      // An index may name any of them, whatever it is called.
      const bool may_be_read = has_index || name == kSingleFileName;
      if (may_be_read) {
        role = FileRole::kWeights;
      } else if (role == FileRole::kWeights) {
        role = FileRole::kLeftBehind;
      }
    }
    add(name, **info, role);
  }
  return files;
}

std::string DescribeLeftBehind(const std::vector<DirectoryFile>& files) {
  constexpr size_t kMostNames = 8;
  std::vector<std::string> names;
  for (const DirectoryFile& file : files) {
    const size_t slash = file.name.find('/');
    const bool hidden =
        file.name.front() == '.' ||
        (slash != file.name.npos && slash + 1 < file.name.size() && file.name[slash + 1] == '.');
    if (file.role == FileRole::kLeftBehind && !hidden) {
      // The name of a file may be any bytes.
      absl::string_view plain = file.name;
      absl::ConsumeSuffix(&plain, "/");
      const bool prints = IsPlainFileName(plain) || IsModelFileName(plain);
      names.push_back(prints ? file.name : QuoteForMessage(file.name));
    }
  }
  if (names.empty()) return "";
  const size_t more = names.size() - std::min(names.size(), kMostNames);
  names.resize(names.size() - more);
  return absl::StrCat("left behind: ", absl::StrJoin(names, ", "),
                      more == 0 ? "" : absl::StrCat(" and ", more, " more"),
                      "; tokenizer, templates, configuration, licences and code are taken along");
}

}  // namespace salient
