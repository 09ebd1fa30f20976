// What stands before and after the blocks: token ids to hidden states, hidden states to logits.
// Both read from the file what they need of matrices that are larger than a block.
#ifndef SALIENT_CORE_MODEL_ENDS_H_
#define SALIENT_CORE_MODEL_ENDS_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/model_config.h"
#include "core/checkpoint/tensor_source.h"
#include "core/linalg/executor.h"
#include "core/model/block_weights.h"
#include "core/model/family.h"
#include "core/model/projection.h"
#include "core/tensor/matrix.h"

namespace salient {

// The embeddings of `tokens`, [tokens, hidden_size]. INVALID_ARGUMENT for an id that the
// vocabulary lacks (names position, id and limit) or a NaN or infinity in an embedding that is
// used; errors of the source.
absl::StatusOr<Matrix> EmbedTokens(const TensorSource& source, const Family& family,
                                   const ModelConfig& config, absl::Span<const int64_t> tokens);

// Final norm and logits, the latter in slices of the vocabulary: a row of T tokens takes
// T kSlice floats, however large the vocabulary. Borrows the source. Thread-safe.
class OutputHead {
 public:
  static constexpr int64_t kSlice = 4096;  // token ids

  // Errors as FindTensor and ReadVector.
  static absl::StatusOr<OutputHead> Open(const TensorSource& source, const Family& family,
                                         const ModelConfig& config);

  // Normalizes what left the last block, [tokens, hidden_size]; as RmsNorm.
  absl::StatusOr<Matrix> Norm(const Matrix& hidden, Executor& executor) const;

  int64_t SliceCount() const { return (vocab_size_ + kSlice - 1) / kSlice; }
  int64_t FirstTokenId(int64_t slice) const { return slice * kSlice; }

  // Logits of the ids from FirstTokenId(slice), [rows of normed, at most kSlice], f32. The same
  // bits for any executor. INVALID_ARGUMENT for a NaN or infinity in the head; errors of source.
  absl::StatusOr<Matrix> Logits(const Matrix& normed, int64_t slice, Executor& executor) const;

 private:
  OutputHead(const TensorSource& source, std::string head, DType dtype, StoredVector norm,
             const ModelConfig& config)
      : source_(&source),
        head_(std::move(head)),
        dtype_(dtype),
        norm_(std::move(norm)),
        vocab_size_(config.vocab_size),
        epsilon_(config.rms_norm_eps) {}

  const TensorSource* source_;
  std::string head_;  // the tensor's name
  DType dtype_;
  StoredVector norm_;
  int64_t vocab_size_;
  double epsilon_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_ENDS_H_
