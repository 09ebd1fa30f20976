#include "server/jobs/root_path.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

namespace fs = std::filesystem;

absl::Status BadPath(const std::string& path, absl::string_view what) {
  return InvalidCall(Reason::kBadPath, absl::StrCat("path ", QuoteForMessage(path), ": ", what));
}

absl::StatusOr<fs::path> Root(absl::string_view flag, const std::string& root,
                              const std::string& path) {
  if (root.empty()) {
    return BadPath(path, absl::StrCat("this server has no ", flag, "; expected uploaded blobs"));
  }
  std::error_code error;
  fs::path canonical = fs::canonical(root, error);
  if (error) return BadPath(path, absl::StrCat("the directory of ", flag, " is not there"));
  return canonical;
}

bool IsBelow(const fs::path& root, const fs::path& path) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

// Returns an existing directory, without links.
absl::StatusOr<fs::path> Existing(absl::string_view flag, const fs::path& root,
                                  const fs::path& wanted, const std::string& path) {
  // A name with a NUL would be cut by the kernel, and another one be looked at.
  if (path.find('\0') != path.npos) return BadPath(path, "has a NUL; expected none");
  std::error_code error;
  const fs::path canonical = fs::canonical(wanted, error);
  // Whether something exists outside the root is nobody's business: one answer for both.
  if (error || !IsBelow(root, canonical)) {
    return BadPath(path, absl::StrCat("is not there, or not below ", flag));
  }
  if (!fs::is_directory(canonical, error)) return BadPath(path, "is not a directory");
  return canonical;
}

}  // namespace

bool IsBelowRoot(const std::string& root, const std::string& path) {
  std::error_code error;
  const fs::path base = fs::canonical(root, error);
  if (error) return false;
  const fs::path canonical = fs::canonical(path, error);
  return !error && IsBelow(base, canonical);
}

absl::Status WithoutRoots(const absl::Status& status, absl::Span<const std::string> roots) {
  if (status.ok()) return status;
  std::string message(status.message());
  for (const std::string& root : roots) {
    std::error_code error;
    const std::string canonical = fs::canonical(root, error).string();
    for (const std::string& prefix : {canonical, root}) {
      // All that is absolute lies below the root of all.
      if (prefix.empty() || prefix.back() == '/') continue;
      absl::StrReplaceAll({{absl::StrCat(prefix, "/"), ""}}, &message);
    }
  }
  if (message == status.message()) return status;
  absl::Status result(status.code(), message);
  status.ForEachPayload([&result](absl::string_view type, const absl::Cord& payload) {
    result.SetPayload(type, payload);
  });
  return result;
}

absl::StatusOr<std::string> ResolveModelPath(absl::string_view flag, const std::string& root,
                                             const std::string& path) {
  const absl::StatusOr<fs::path> base = Root(flag, root, path);
  if (!base.ok()) return base.status();
  const absl::StatusOr<fs::path> found = Existing(flag, *base, *base / path, path);
  if (!found.ok()) return found.status();
  return found->string();
}

absl::StatusOr<std::string> ResolveOutputPath(absl::string_view flag, const std::string& root,
                                              const std::string& path) {
  const absl::StatusOr<fs::path> base = Root(flag, root, path);
  if (!base.ok()) return base.status();
  fs::path wanted = *base / path;
  if (!wanted.has_filename()) wanted = wanted.parent_path();  // "out/" is "out".
  const fs::path name = wanted.filename();
  if (name.empty() || name == "." || name == "..") {
    return BadPath(path, "expected the name of a directory to be made");
  }
  const absl::StatusOr<fs::path> parent = Existing(flag, *base, wanted.parent_path(), path);
  if (!parent.ok()) return parent.status();
  std::error_code error;
  if (fs::is_symlink(*parent / name, error)) return BadPath(path, "is a link; expected none");
  // It is the root itself, named absolutely.
  if (!IsBelow(*base, *parent)) return BadPath(path, absl::StrCat("is not below ", flag));
  return (*parent / name).string();
}

}  // namespace salient
