// The tensors outside the blocks (embeddings, final norm, head), on their way to a result.
#ifndef SALIENT_CORE_RESULT_OUTER_TENSORS_H_
#define SALIENT_CORE_RESULT_OUTER_TENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/model.h"
#include "core/safetensors/layout.h"
#include "core/tensor/dtype.h"

namespace salient {

// Takes bytes of a tensor, from byte `offset` of it on.
using TensorBytes = absl::FunctionRef<absl::Status(const TensorShape& tensor, int64_t offset,
                                                   absl::Span<const std::byte> bytes)>;

// Tells of rows of the embeddings or of the head that are not finite in a result and belong to no
// token, because the vocabulary was padded to more rows than the tokenizer has tokens.
struct UnusedRows {
  std::string tensor;
  DType dtype = DType::kF16;  // It is that of the result.
  int64_t count = 0;
  int64_t first = 0;
  int64_t last = 0;
  int64_t highest_token_id = 0;
  bool makes_logits = false;  // It is the head, or embeddings that are the head, too.

  // Says in a sentence which they are and what engines make of them.
  std::string Describe() const;
};

struct OuterTensorsParams {
  // Tells which tensors are taken; all, if it is empty. Who judges them before they are written
  // takes those that are there.
  std::function<bool(const std::string& tensor)> wanted = {};
  // Returns the highest id that the model's tokenizer gives to a token. It is asked when a row is
  // found that no result can hold. INVALID_ARGUMENT or NOT_FOUND says why nobody knows; every row
  // is then taken as used, as it is if this is empty.
  std::function<absl::StatusOr<int64_t>()> highest_token_id = {};
  // It is told of rows that stay as they are although no result can hold them.
  std::function<void(const UnusedRows& rows)> unused = {};
};

// Copies the tensors outside the blocks, in their PlainDTypes, to `out` in order, a range of at
// most 4 MiB at a time, so that none is ever held whole.
//
// A row that belongs to no token keeps its bytes, or what is not finite in it stays so in another
// dtype. What is finite and beyond the dtype becomes an infinity where no logit is made of it.
//
// Errors: as FindTensor; INVALID_ARGUMENT (IsNonFinite) for a NaN, an infinity, or a value that the
// dtype cannot hold (names file, tensor, row, column, value), other than in such rows; those of the
// source, of `out` and of highest_token_id.
absl::Status CopyOuterTensors(const TensorSource& source, const Model& model, TensorBytes out,
                              const OuterTensorsParams& params = {});

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_OUTER_TENSORS_H_
