// Shows a model's tensors of F64 as F32, which is what engines make of them.
#ifndef SALIENT_CORE_CHECKPOINT_F64_SOURCE_H_
#define SALIENT_CORE_CHECKPOINT_F64_SOURCE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/checkpoint/tensor_source.h"
#include "core/parallel/mutex.h"
#include "core/safetensors/safetensors.h"

namespace salient {

// Shows every tensor of F64 as one of F32, each element rounded to the nearest, and everything else
// as it is. It is thread-safe if `source` is.
class F64AsF32Source final : public TensorSource {
 public:
  explicit F64AsF32Source(std::unique_ptr<TensorSource> source) : source_(std::move(source)) {}

  const std::string& name() const override { return source_->name(); }
  bool IsHere(absl::string_view tensor) const override { return source_->IsHere(tensor); }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override;
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override;

 private:
  const std::unique_ptr<TensorSource> source_;
  mutable Mutex mu_;
  // Entries stand here as they are shown, and stay where they are.
  mutable std::map<std::string, TensorEntry, std::less<>> shown_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_F64_SOURCE_H_
