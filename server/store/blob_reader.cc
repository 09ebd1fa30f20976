#include "server/store/blob_reader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"

namespace salient {

absl::StatusOr<std::string> BlobReader::Next(int64_t max_bytes) {
  std::string bytes(static_cast<size_t>(std::min(max_bytes, end_ - next_)), '\0');
  if (absl::Status read = ReadAt(next_, absl::MakeSpan(bytes.data(), bytes.size())); !read.ok()) {
    return read;
  }
  next_ += static_cast<int64_t>(bytes.size());
  return bytes;
}

absl::Status BlobReader::ReadAt(int64_t offset_bytes, absl::Span<char> bytes) const {
  const auto size = static_cast<int64_t>(bytes.size());
  if (offset_bytes < 0 || offset_bytes > end_ || size > end_ - offset_bytes) {
    return absl::OutOfRangeError(absl::StrCat(size, " bytes from offset ", offset_bytes,
                                              "; expected at most offset ", end_));
  }
  if (bytes.empty()) return absl::OkStatus();
  const absl::Status read = sums_->Read(file_, offset_bytes, bytes);
  if (!absl::IsDataLoss(read) && !absl::IsAborted(read)) return read;
  if (absl::IsDataLoss(read)) store_->TakeOut(*entry_, *sums_);
  return absl::Status(read.code(),
                      absl::StrCat("blob ", ToString(entry_->digest), ": ", read.message()));
}

}  // namespace salient
