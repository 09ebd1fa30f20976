// A checkpoint in several files: which tensor lies in which, read and written.
//
//   model.safetensors                 one file, no index
//   model-00001-of-00003.safetensors  several, and model.safetensors.index.json:
//   {"metadata": {"total_size": bytes of all tensors}, "weight_map": {tensor: file}}
#ifndef SALIENT_CORE_CHECKPOINT_SHARD_INDEX_H_
#define SALIENT_CORE_CHECKPOINT_SHARD_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/safetensors/safetensors.h"

namespace salient {

inline constexpr char kSingleFileName[] = "model.safetensors";
inline constexpr char kShardIndexName[] = "model.safetensors.index.json";
inline constexpr int64_t kMaxShardIndexBytes = 100'000'000;
inline constexpr size_t kMaxShards = 4096;
// Hugging Face's own writer cuts at this limit: 5 GB, decimal.
inline constexpr int64_t kDefaultMaxShardBytes = 5'000'000'000;

// Holds what an index says. It is immutable after ParseShardIndex.
struct ShardIndex {
  std::string source;
  std::vector<std::string> files;  // They are sorted.
  // It holds (tensor, index into files), sorted.
  std::vector<std::pair<std::string, size_t>> weight_map;
};

// Checks that a file name leads nowhere else: it ends in ".safetensors", has at most 255 bytes,
// does not begin with a dot, and has no separator and no control character. Returns
// INVALID_ARGUMENT naming `source` and the value.
absl::Status CheckShardName(absl::string_view source, absl::string_view file);

// Parses an index. The metadata is not read: published files disagree on what total_size counts,
// and on how it is written.
//
// Errors: INVALID_ARGUMENT naming source, tensor, field, value and what was expected.
absl::StatusOr<ShardIndex> ParseShardIndex(absl::string_view source, absl::string_view json);

// Checks that the index names model.safetensors alone if that is there (`has_single_file`): engines
// disagree on which of the two they read. Returns INVALID_ARGUMENT naming the index.
absl::Status CheckIndexBesideFile(const ShardIndex& index, bool has_single_file);

// This is a tensor and the file that it lies in, an index.
using TensorPlace = std::pair<std::string, size_t>;

struct TensorPlaces {
  std::vector<TensorPlace> first;  // It says where each is read, sorted.
  // It says where else it lies: its bytes must be the same there.
  std::vector<TensorPlace> copies;
};

// Finds the tensors of a model in the headers of its files, in the order of `index->files`; null:
// there is one file. Every tensor of the index must be in its file. Engines load all that a file
// holds, whatever the index says: so tensors that it does not name count, too, and the copy of a
// tensor in another file must have its dtype and shape. Tensors of a decoder that was saved without
// its head ("layers.0...") get the names that they have in the whole model ("model.layers.0..."),
// in the headers as well.
//
// Errors: INVALID_ARGUMENT naming index, file and tensor.
absl::StatusOr<TensorPlaces> PlaceTensors(const ShardIndex* index,
                                          absl::Span<SafetensorsHeader* const> headers);

// Names one of the files that a tensor lies in. They may both hold it if it is the same in both.
struct TensorCopy {
  absl::string_view file;
  // Reads the tensor's bytes from byte `offset` of it on.
  absl::FunctionRef<absl::Status(int64_t offset, absl::Span<std::byte> bytes)> read;
};

// Compares the `size_bytes` bytes of two copies. INVALID_ARGUMENT naming both files and the tensor
// if they differ; errors of reading.
absl::Status CheckCopies(absl::string_view tensor, int64_t size_bytes, const TensorCopy& first,
                         const TensorCopy& other);

// A tensor to be placed.
struct TensorSize {
  std::string name;
  int64_t bytes = 0;
};

struct Shard {
  std::string file;
  std::vector<size_t> tensors;  // They are indices into what was placed, rising.
  int64_t bytes = 0;            // It counts the tensors, without the header.
};

struct ShardPlan {
  std::vector<Shard> shards;
  int64_t total_bytes = 0;
  // It is that of kShardIndexName; one shard has no index, and it is empty.
  std::string index_json;
};

// Cuts `tensors` into files in the given order. Tensors that follow each other and share a name
// up to its last dot, such as those of one Linear, stay together. A file exceeds
// `max_shard_bytes` only if such a unit does. Depends on its arguments only.
//
// Errors: INVALID_ARGUMENT for no tensor, a duplicate or empty name, a negative size or a limit
// below 1; RESOURCE_EXHAUSTED for more than kMaxShards files.
absl::StatusOr<ShardPlan> PlanShards(absl::Span<const TensorSize> tensors,
                                     int64_t max_shard_bytes = kDefaultMaxShardBytes);

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_SHARD_INDEX_H_
