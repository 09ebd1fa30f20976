// Computes what stands before and after the blocks: token ids to hidden states, hidden states to
// logits. Both read from the file what they need of matrices that are larger than a block.
#ifndef SALIENT_CORE_MODEL_BLOCKS_EMBEDDING_AND_HEAD_H_
#define SALIENT_CORE_MODEL_BLOCKS_EMBEDDING_AND_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/model/block_weights.h"
#include "core/model/model.h"
#include "core/model/projection.h"
#include "core/parallel/executor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace salient {

// Returns what enters the first block, [tokens, hidden_size]: embeddings of `tokens`, projected and
// added to those of their positions as the model says. Returns INVALID_ARGUMENT for an id that the
// vocabulary lacks (names position, id and limit), for more tokens than the model has positions, or
// a NaN or infinity in an embedding that is used, and the errors of the source.
absl::StatusOr<Matrix> EmbedTokens(const TensorSource& source, const Model& model,
                                   absl::Span<const int64_t> tokens);

// Rows of the head for some ids of the vocabulary, in stored dtype.
struct HeadSlice {
  int64_t first_id = 0;
  DType dtype = DType::kF32;
  int64_t ids = 0;
  std::vector<std::byte> weight;  // It is [ids, embedding_size].
  double multiplier = 1;          // It is Model::logit_multiplier.
  std::optional<double> soft_cap;
};

// Computes final norm and logits, the latter in slices of the vocabulary: a row of T tokens takes T
// kSlice floats, however large the vocabulary. It borrows source and model and is thread-safe.
class OutputHead {
 public:
  static constexpr int64_t kSlice = 4096;  // It counts token ids.

  // Opens the head. Its errors are those of FindTensor and ReadVector.
  static absl::StatusOr<OutputHead> Open(const TensorSource& source, const Model& model);

  // Normalizes and projects what left the last block, [tokens, hidden_size], in
  // PaddedTokens(tokens) rows.
  absl::StatusOr<Matrix> Norm(const Matrix& hidden, Executor& executor) const;

  int64_t SliceCount() const { return (vocab_size_ + kSlice - 1) / kSlice; }

  // Reads the head for at most kSlice ids from slice kSlice, once for any number of rows. Returns
  // INVALID_ARGUMENT for a NaN or infinity, and the errors of the source.
  absl::StatusOr<HeadSlice> Read(int64_t slice, Executor& executor) const;

 private:
  OutputHead(const TensorSource& source, const Model& model, DType dtype)
      : source_(&source), model_(&model), dtype_(dtype), vocab_size_(model.config.vocab_size) {}

  const TensorSource* source_;
  const Model* model_;
  DType dtype_;
  int64_t vocab_size_;
  std::vector<float> norm_weight_;
  std::vector<float> norm_bias_;
  DType projection_dtype_ = DType::kF32;
  std::vector<std::byte> projection_;  // It is [embedding_size, hidden_size], or empty.
};

// Logits of the slice's ids, [rows of normed, ids], f32. The bits are the same for any executor.
absl::StatusOr<Matrix> Logits(const Matrix& normed, const HeadSlice& slice, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_EMBEDDING_AND_HEAD_H_
