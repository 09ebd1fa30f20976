#include "server/jobs/tensor_spool.h"

#include <algorithm>
#include <utility>

namespace salient {

constexpr int64_t kReplayBytes = int64_t{1} << 20;

absl::StatusOr<TensorSpool> TensorSpool::Create(const std::string& directory,
                                                const std::string& name, int64_t bytes) {
  const absl::StatusOr<Directory> opened = Directory::OpenRoot(directory);
  if (!opened.ok()) return opened.status();
  absl::StatusOr<File> file = opened->OpenForWriting(name);
  if (!file.ok()) return file.status();
  absl::Status status = file->Truncate(0);
  if (status.ok() && bytes > 0) status = file->Reserve(0, bytes);
  if (!status.ok()) return status;
  return TensorSpool(*std::move(file));
}

absl::Status TensorSpool::Add(const NamedTensor& tensor) {
  const int64_t begin = entries_.empty() ? 0 : entries_.back().end;
  const auto size = static_cast<int64_t>(tensor.data.size());
  absl::Status status =
      file_.WriteAt(begin, {reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()});
  if (!status.ok()) return status;
  entries_.push_back({tensor.name, begin, begin + size});
  return absl::OkStatus();
}

absl::Status TensorSpool::Close() {
  return file_.Truncate(entries_.empty() ? 0 : entries_.back().end);
}

absl::Status TensorSpool::Replay(Out out) {
  std::vector<char> buffer;
  for (const Entry& entry : entries_) {
    for (int64_t at = entry.begin; at < entry.end;) {
      buffer.resize(static_cast<size_t>(std::min(kReplayBytes, entry.end - at)));
      absl::Status status = file_.ReadAt(at, absl::MakeSpan(buffer));
      if (status.ok()) {
        status = out(entry.name, at - entry.begin,
                     {reinterpret_cast<const std::byte*>(buffer.data()), buffer.size()});
      }
      if (!status.ok()) return status;
      at += static_cast<int64_t>(buffer.size());
    }
  }
  entries_.clear();
  return file_.Truncate(0);
}

}  // namespace salient
