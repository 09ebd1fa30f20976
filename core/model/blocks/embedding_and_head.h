// Computes what stands before and after the blocks: token ids to hidden states, hidden states to
// logits. Both read from the file what they need of matrices that are larger than a block.
#ifndef SALIENT_CORE_MODEL_BLOCKS_EMBEDDING_AND_HEAD_H_
#define SALIENT_CORE_MODEL_BLOCKS_EMBEDDING_AND_HEAD_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/block_weights.h"
#include "core/model/model.h"
#include "core/model/projection.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Returns the embeddings of `tokens`, [tokens, hidden_size]. Returns INVALID_ARGUMENT for an id
// that the vocabulary lacks (names position, id and limit) or a NaN or infinity in an embedding
// that is used, and the errors of the source.
absl::StatusOr<Matrix> EmbedTokens(const TensorSource& source, const Model& model,
                                   absl::Span<const int64_t> tokens);

// Rows of the head for some ids of the vocabulary, in stored dtype.
struct HeadSlice {
  int64_t first_id = 0;
  DType dtype = DType::kF32;
  int64_t ids = 0;
  std::vector<std::byte> weight;  // It is [ids, hidden_size].
};

// Computes final norm and logits, the latter in slices of the vocabulary: a row of T tokens takes T
// kSlice floats, however large the vocabulary. It borrows the source and is thread-safe.
class OutputHead {
 public:
  static constexpr int64_t kSlice = 4096;  // It counts token ids.

  // Opens the head. Its errors are those of FindTensor and ReadVector.
  static absl::StatusOr<OutputHead> Open(const TensorSource& source, const Model& model);

  // Normalizes what left the last block, [tokens, hidden_size]; as RmsNorm.
  absl::StatusOr<Matrix> Norm(const Matrix& hidden, Executor& executor) const;

  int64_t SliceCount() const { return (vocab_size_ + kSlice - 1) / kSlice; }

  // Reads the head for at most kSlice ids from slice kSlice, once for any number of rows. Returns
  // INVALID_ARGUMENT for a NaN or infinity, and the errors of the source.
  absl::StatusOr<HeadSlice> Read(int64_t slice, Executor& executor) const;

 private:
  OutputHead(const TensorSource& source, std::string head, DType dtype, StoredVector norm,
             const ModelConfig& config)
      : source_(&source),
        head_(std::move(head)),
        dtype_(dtype),
        norm_(std::move(norm)),
        vocab_size_(config.vocab_size),
        hidden_size_(config.hidden_size),
        epsilon_(config.rms_norm_eps) {}

  const TensorSource* source_;
  std::string head_;  // It is the tensor's name.
  DType dtype_;
  StoredVector norm_;
  int64_t vocab_size_;
  int64_t hidden_size_;
  double epsilon_;
};

// Logits of the slice's ids, [rows of normed, ids], f32. The bits are the same for any executor.
absl::StatusOr<Matrix> Logits(const Matrix& normed, const HeadSlice& slice, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_EMBEDDING_AND_HEAD_H_
