// Writes a model directory that is complete in the end, or absent.
#ifndef SALIENT_CORE_CHECKPOINT_CHECKPOINT_WRITER_H_
#define SALIENT_CORE_CHECKPOINT_CHECKPOINT_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/safetensors/layout.h"

namespace salient {

// Fills an AppearingDirectory. It is thread-safe except for Commit.
class CheckpointWriter {
 public:
  // Creates it as AppearingDirectory::Create.
  static absl::StatusOr<CheckpointWriter> Create(const std::string& directory);
  CheckpointWriter(CheckpointWriter&&) noexcept;
  CheckpointWriter& operator=(CheckpointWriter&&) noexcept;
  ~CheckpointWriter();

  // Names are those of IsModelFileName; others are INVALID_ARGUMENT, and one that was given before
  // is ALREADY_EXISTS. A subdirectory is made with its first file.
  //
  // Writes a file with its content.
  absl::Status WriteFile(absl::string_view name, absl::string_view content);
  // Copies the file at `source`, whatever its size. `check` is called before each MiB; its error is
  // returned, and nothing can be committed.
  absl::Status CopyFile(absl::string_view name, const std::string& source,
                        absl::FunctionRef<absl::Status()> check);
  absl::Status CopyFile(absl::string_view name, const std::string& source) {
    return CopyFile(name, source, [] { return absl::OkStatus(); });
  }
  // Adds a safetensors file whose bytes come later. Returns RESOURCE_EXHAUSTED if the disk has no
  // room for it; INVALID_ARGUMENT for a tensor that another file has.
  absl::Status AddSafetensors(absl::string_view name, const SafetensorsLayout& layout);
  // Writes bytes of a tensor of one of these files, from byte `offset` of the tensor. Each byte is
  // written once. Returns NOT_FOUND for a tensor that no file has, OUT_OF_RANGE beyond its end,
  // INVALID_ARGUMENT for a byte that was written before.
  absl::Status WriteTensor(absl::string_view tensor, int64_t offset,
                           absl::Span<const std::byte> bytes);

  // Syncs everything and takes the final name. Returns INTERNAL if bytes of a tensor are missing
  // (names it); ALREADY_EXISTS if something else has taken the name meanwhile; what an earlier
  // write failed of.
  absl::Status Commit();

 private:
  struct State;
  explicit CheckpointWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_CHECKPOINT_WRITER_H_
