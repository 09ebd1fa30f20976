// Keeps the result file, while it grows and when it is whole.
#ifndef SALIENT_CLIENT_TENSORS_PACKED_OUTPUT_H_
#define SALIENT_CLIENT_TENSORS_PACKED_OUTPUT_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/dtype.h"

namespace salient::client {

// Tensors arrive in the order of groups, but a safetensors file wants all names and sizes before
// the first byte. So the bytes wait in a nameless file beside the output, on disk instead of in
// memory, and nothing of it is left if the process dies. It is move-only, not thread-safe.
class PackedOutput {
 public:
  // Returns INVALID_ARGUMENT, naming `path`, if a file cannot be written there.
  static absl::StatusOr<PackedOutput> Create(std::string path);
  PackedOutput(PackedOutput&& other) noexcept;
  PackedOutput& operator=(PackedOutput&& other) noexcept;
  ~PackedOutput();

  // Opens the next tensor. Returns INVALID_ARGUMENT if its name is empty or was there before, or if
  // a dimension is negative or its size does not fit into 2^63 bytes.
  absl::Status BeginTensor(absl::string_view name, DType dtype, std::vector<int64_t> shape);

  // Appends the next bytes of the tensor opened last. Returns OUT_OF_RANGE if they are more than
  // its shape says, and INTERNAL, naming the output, if the disk does not take them.
  absl::Status Append(absl::string_view bytes);

  // Returns whether the tensor opened last has all its bytes. It is true before the first.
  bool Complete() const;
  int64_t expected_bytes() const { return tensors_.empty() ? 0 : tensors_.back().bytes; }

  // Writes all tensors to the path, which appears complete or not at all. Returns
  // FAILED_PRECONDITION if the last tensor lacks bytes; INTERNAL if the disk has no room; otherwise
  // as WriteSafetensors.
  absl::Status Commit(const std::map<std::string, std::string>& metadata) const;

 private:
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    int64_t begin;  // In the nameless file.
    int64_t bytes;
  };

  PackedOutput(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;  // Of the nameless file.
  std::vector<Tensor> tensors_;
  std::set<std::string> names_;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TENSORS_PACKED_OUTPUT_H_
