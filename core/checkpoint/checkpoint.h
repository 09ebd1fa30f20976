// Opens a checkpoint directory: one model.safetensors, or shards with an index.
#ifndef SALIENT_CORE_CHECKPOINT_CHECKPOINT_H_
#define SALIENT_CORE_CHECKPOINT_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/checkpoint/shard_index.h"
#include "core/checkpoint/tensor_source.h"
#include "core/safetensors/safetensors.h"

namespace salient {

// Returns the whole of a small file, such as config.json. Returns NOT_FOUND or PERMISSION_DENIED if
// it cannot be opened, INVALID_ARGUMENT if it is no regular file or has more than `max_bytes`.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes);

// Keeps its files open. It is move-only; thread-safe.
class Checkpoint final : public TensorSource {
 public:
  // Opens all files, holds the index against their headers and copies against each other.
  //
  // Errors: NOT_FOUND if neither model.safetensors nor its index is there, or a shard is not;
  // INVALID_ARGUMENT as CheckIndexBesideFile, ParseShardIndex, PlaceTensors, CheckCopies and
  // ParseSafetensorsHeader.
  static absl::StatusOr<Checkpoint> Open(const std::string& directory);

  const std::string& name() const override { return directory_; }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override;
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override;
  // Returns all bytes of a tensor. Its errors are those of Find and ReadRange.
  absl::StatusOr<std::vector<std::byte>> Read(absl::string_view tensor) const;

  // Returns them in the order of their names.
  const std::vector<SafetensorsFile>& files() const { return files_; }
  // Returns the names of the tensors of all files, sorted.
  std::vector<std::string> TensorNames() const;

 private:
  // Returns NOT_FOUND if no file holds the tensor.
  absl::StatusOr<const SafetensorsFile*> FileOf(absl::string_view tensor) const;
  // Holds the tensor of that file against the one that is read.
  absl::Status CheckCopy(const std::string& tensor, size_t file) const;

  std::string directory_;
  std::vector<SafetensorsFile> files_;
  std::vector<TensorPlace> file_of_;  // It holds (tensor, index into files_), sorted.
};

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_CHECKPOINT_H_
