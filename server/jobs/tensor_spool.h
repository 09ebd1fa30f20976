// Tensors on disk whose place in the result is not known yet.
#ifndef SALIENT_SERVER_JOBS_TENSOR_SPOOL_H_
#define SALIENT_SERVER_JOBS_TENSOR_SPOOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/named_tensor.h"
#include "server/store/file.h"

namespace salient {

// Writes one tensor after the other to one file. It is not thread-safe; calls wait for a disk. Its
// errors are those of File.
class TensorSpool {
 public:
  // Makes the file `name` inside `directory`, which exists and is cleaned up by its owner. Sets
  // aside room for `bytes` of tensors: RESOURCE_EXHAUSTED at once if the disk has less.
  static absl::StatusOr<TensorSpool> Create(const std::string& directory, const std::string& name,
                                            int64_t bytes);

  absl::Status Add(const NamedTensor& tensor);

  // Gives back the room that the tensors did not take, when all were added.
  absl::Status Close();

  // Hands over all tensors in the order they came, at most 1 MiB at a time, and empties the file.
  using Out = absl::FunctionRef<absl::Status(const std::string& tensor, int64_t offset,
                                             absl::Span<const std::byte> bytes)>;
  absl::Status Replay(Out out);

 private:
  struct Entry {
    std::string name;
    int64_t begin = 0;
    int64_t end = 0;
  };
  explicit TensorSpool(File file) : file_(std::move(file)) {}

  File file_;
  std::vector<Entry> entries_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_TENSOR_SPOOL_H_
