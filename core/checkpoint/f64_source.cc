#include "core/checkpoint/f64_source.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"

namespace salient {
namespace {

constexpr int64_t kElementsAtATime = int64_t{1} << 17;

}  // namespace

absl::StatusOr<TensorLocation> F64AsF32Source::Find(absl::string_view tensor) const {
  absl::StatusOr<TensorLocation> found = source_->Find(tensor);
  if (!found.ok() || found->entry->dtype != DType::kF64) return found;
  const MutexLock lock(mu_);
  auto shown = shown_.find(tensor);
  if (shown == shown_.end()) {
    TensorEntry entry = *found->entry;
    entry.dtype = DType::kF32;
    entry.end = entry.begin + entry.SizeBytes() / 2;
    shown = shown_.emplace(std::string(tensor), std::move(entry)).first;
  }
  found->entry = &shown->second;
  return found;
}

absl::Status F64AsF32Source::ReadRange(absl::string_view tensor, int64_t offset,
                                       absl::Span<std::byte> bytes) const {
  const absl::StatusOr<TensorLocation> found = source_->Find(tensor);
  if (!found.ok()) return found.status();
  if (found->entry->dtype != DType::kF64) return source_->ReadRange(tensor, offset, bytes);
  const int64_t end = offset + static_cast<int64_t>(bytes.size());
  if (offset < 0 || end > found->entry->SizeBytes() / 2) {
    return absl::OutOfRangeError(
        absl::StrCat(found->file, ": tensor ", tensor, ": range of ", bytes.size(), " bytes at ",
                     offset, "; expected within ", found->entry->SizeBytes() / 2, " bytes of F32"));
  }
  std::vector<double> wide;
  std::vector<float> narrow;
  // Element by element: a range need not begin or end where one does.
  for (int64_t at = offset; at < end;) {
    const int64_t first = at / 4;
    const int64_t count = std::min(kElementsAtATime, (end + 3) / 4 - first);
    wide.resize(static_cast<size_t>(count));
    absl::Status status = source_->ReadRange(
        tensor, first * 8,
        absl::MakeSpan(reinterpret_cast<std::byte*>(wide.data()), wide.size() * 8));
    if (!status.ok()) return status;
    narrow.assign(wide.begin(), wide.end());
    const int64_t stop = std::min(end, 4 * (first + count));
    std::memcpy(bytes.data() + (at - offset),
                reinterpret_cast<const std::byte*>(narrow.data()) + (at - 4 * first),
                static_cast<size_t>(stop - at));
    at = stop;
  }
  return absl::OkStatus();
}

}  // namespace salient
