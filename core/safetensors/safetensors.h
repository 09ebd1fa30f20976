// safetensors: 8 bytes N (little-endian), N bytes of JSON header, then the tensors' bytes.
//
//   header := {"__metadata__": {string: string}?, name: {"dtype", "shape", "data_offsets"}*}
//
// data_offsets [begin, end) count from the end of the header; the tensors fill the rest of the
// file without hole or overlap. Row-major, little-endian.
// https://huggingface.co/docs/safetensors
//
// Reading accepts what the reference reader accepts, except duplicate and empty tensor names,
// dimensions of 2^63 and more, and what exceeds the limits below. Tensors of dtypes that DType
// lacks are told of and cannot be read.
#ifndef SALIENT_CORE_SAFETENSORS_SAFETENSORS_H_
#define SALIENT_CORE_SAFETENSORS_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/file/regular_file.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {

// The first is the reference's limit, the others ours.
inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr int64_t kMaxSafetensorsTensors = 262'144;
inline constexpr int64_t kMaxSafetensorsRank = 32;
inline constexpr int64_t kMaxSafetensorsNameBytes = 512;
// The length of the header stands in these bytes, before its JSON.
inline constexpr int64_t kSafetensorsPrefixBytes = 8;

struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // It counts bytes from the end of the header.
  int64_t end = 0;    // It is begin + product(shape) * SizeOf(dtype).

  int64_t SizeBytes() const { return end - begin; }
};

// Holds what a header says, validated. It is immutable.
class SafetensorsHeader {
 public:
  // Returns them in the order of their bytes.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  // Returns nullptr if there is none.
  const TensorEntry* Find(absl::string_view name) const;
  // Finds a tensor; else NOT_FOUND naming source and tensor, INVALID_ARGUMENT if `unreadable`.
  absl::StatusOr<const TensorEntry*> Get(absl::string_view name) const;
  // Returns, by name, the dtypes of tensors whose dtype DType lacks. They have a place in the file,
  // and `tensors` has none of them.
  const std::map<std::string, std::string, std::less<>>& unreadable() const { return unreadable_; }
  // Gives every tensor for which `renames` is true a name that begins with `prefix`.
  void AddPrefix(absl::string_view prefix, absl::FunctionRef<bool(absl::string_view)> renames);
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Returns the name that errors give to the file.
  const std::string& source() const { return source_; }

 private:
  friend absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view source,
                                                                  absl::string_view json,
                                                                  int64_t data_bytes);
  void SortNames();

  std::string source_;
  std::vector<TensorEntry> tensors_;
  std::vector<size_t> by_name_;  // They are indices into tensors_, sorted by name.
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::string, std::less<>> unreadable_;
};

// Returns how many bytes of JSON follow the prefix, the first 8 bytes of a file of `file_bytes`.
// Returns INVALID_ARGUMENT naming source and length, or what the file seems to be instead.
absl::StatusOr<int64_t> SafetensorsHeaderBytes(absl::string_view source, absl::string_view prefix,
                                               int64_t file_bytes);

// Parses the JSON part alone. `data_bytes` follow it. Returns INVALID_ARGUMENT naming source,
// tensor, field, value and what was expected.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view source,
                                                         absl::string_view json,
                                                         int64_t data_bytes);

// Reads a file on disk. Bytes are read when asked for, never mapped: a file that shrinks gives an
// error, not a signal. It is move-only; reading is thread-safe.
class SafetensorsFile {
 public:
  // Returns NOT_FOUND or PERMISSION_DENIED if `path` cannot be opened, INVALID_ARGUMENT as
  // ParseSafetensorsHeader.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const SafetensorsHeader& header() const { return header_; }
  SafetensorsHeader& mutable_header() { return header_; }

  // Returns all bytes of a tensor. Returns NOT_FOUND if there is none of this name; else its errors
  // are those of ReadRange.
  absl::StatusOr<std::vector<std::byte>> ReadTensor(absl::string_view name) const;

  // Fills `bytes` from byte `offset` of the tensor. Returns OUT_OF_RANGE if it has fewer bytes;
  // DATA_LOSS if the file changed under us.
  absl::Status ReadRange(absl::string_view name, int64_t offset, absl::Span<std::byte> bytes) const;

 private:
  SafetensorsFile(RegularFile file, int64_t data_begin, SafetensorsHeader header);

  RegularFile file_;
  int64_t data_begin_;
  SafetensorsHeader header_;
};

// Reads a whole file in memory. It borrows the bytes.
class SafetensorsView {
 public:
  // Errors call the file `source` and are those of ParseSafetensorsHeader.
  static absl::StatusOr<SafetensorsView> Parse(absl::string_view source,
                                               absl::Span<const std::byte> file);

  const SafetensorsHeader& header() const { return header_; }
  // Returns the bytes of a tensor, or NOT_FOUND if there is none of this name.
  absl::StatusOr<absl::Span<const std::byte>> Tensor(absl::string_view name) const;

 private:
  SafetensorsHeader header_;
  absl::Span<const std::byte> data_;
};

// A tensor to be written. Borrows all it points to.
struct TensorToWrite {
  absl::string_view name;
  DType dtype = DType::kF32;
  absl::Span<const int64_t> shape;
  absl::Span<const std::byte> data;
};

std::vector<TensorToWrite> ToWrite(absl::Span<const NamedTensor> tensors);

// Returns the bytes that the reference writer gives for these tensors: widest dtype first
// (descending in DType), then by name; the header padded with spaces to a multiple of 8. Whatever
// `metadata` says, "format" is "pt", without which common loaders refuse the file; its keys are
// sorted.
//
// Errors: INVALID_ARGUMENT for what the reader would refuse (names the tensor).
absl::StatusOr<std::vector<std::byte>> SerializeSafetensors(
    absl::Span<const TensorToWrite> tensors, const std::map<std::string, std::string>& metadata);

// Writes the same bytes to a file, which appears complete (written beside it, synced, renamed) or
// not at all. Replaces an existing file. Its errors are also those of the file system and name
// `path`.
absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata);

}  // namespace salient

#endif  // SALIENT_CORE_SAFETENSORS_SAFETENSORS_H_
