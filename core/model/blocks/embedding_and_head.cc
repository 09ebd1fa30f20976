#include "core/model/blocks/embedding_and_head.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/model/blocks/forward.h"
#include "core/model/projection.h"
#include "core/parallel/tiles.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"

namespace salient {
namespace {

// Reads rows [first, first + count) of a tensor [.., columns] of `dtype`, widened; they are finite.
absl::Status ReadRows(const TensorSource& source, const std::string& tensor, DType dtype,
                      int64_t first, int64_t count, int64_t columns, float* out) {
  const int64_t row_bytes = columns * SizeOf(dtype);
  std::vector<std::byte> bytes(static_cast<size_t>(count * row_bytes));
  absl::Status status = source.ReadRange(tensor, first * row_bytes, absl::MakeSpan(bytes));
  if (!status.ok()) return status;
  WidenToF32(dtype, bytes.data(), count * columns, out);
  return InItsFile(source, tensor, CheckFinite(tensor, out, count, columns, first));
}

}  // namespace

absl::StatusOr<Matrix> EmbedTokens(const TensorSource& source, const Model& model,
                                   absl::Span<const int64_t> tokens) {
  const ModelConfig& config = model.config;
  const TensorSpec spec = {model.embeddings, {config.vocab_size, config.hidden_size}};
  const auto found = FindTensor(source, config, spec);
  if (!found.ok()) return found.status();
  Matrix hidden(static_cast<int64_t>(tokens.size()), config.hidden_size);
  for (int64_t t = 0; t < hidden.rows(); ++t) {
    const int64_t id = tokens[static_cast<size_t>(t)];
    if (id < 0 || id >= config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("token at position ", t, " is ", id,
                                                     "; expected 0 to ", config.vocab_size - 1,
                                                     ", the vocabulary of ", config.source));
    }
    absl::Status status =
        ReadRows(source, spec.name, found->entry->dtype, id, 1, config.hidden_size, hidden.Row(t));
    if (!status.ok()) return status;
  }
  return hidden;
}

absl::StatusOr<OutputHead> OutputHead::Open(const TensorSource& source, const Model& model) {
  const ModelConfig& config = model.config;
  auto norm = ReadVector(source, config, {model.final_norm, {config.hidden_size}});
  if (!norm.ok()) return norm.status();
  const std::string& head = model.HeadName();
  const auto found = FindTensor(source, config, {head, {config.vocab_size, config.hidden_size}});
  if (!found.ok()) return found.status();
  return OutputHead(source, head, found->entry->dtype, *std::move(norm), config);
}

absl::StatusOr<Matrix> OutputHead::Norm(const Matrix& hidden, Executor& executor) const {
  return RmsNorm(hidden, norm_.values, epsilon_, executor);
}

absl::StatusOr<HeadSlice> OutputHead::Read(int64_t slice, Executor& executor) const {
  HeadSlice head;
  head.first_id = slice * kSlice;
  head.dtype = dtype_;
  head.ids = std::min(kSlice, vocab_size_ - head.first_id);
  const int64_t row_bytes = hidden_size_ * SizeOf(dtype_);
  head.weight.resize(static_cast<size_t>(head.ids * row_bytes));
  const RowTiles tiles(head.ids, SliceOutputs(ComputeDType::kF32));
  const absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const int64_t first = tiles.First(tile);
    const int64_t count = tiles.Count(tile);
    std::byte* rows = head.weight.data() + first * row_bytes;
    absl::Status read =
        source_->ReadRange(head_, (head.first_id + first) * row_bytes,
                           absl::MakeSpan(rows, static_cast<size_t>(count * row_bytes)));
    if (!read.ok()) return read;
    Matrix wide;
    const float* values = WidenedRows({dtype_, rows, count, hidden_size_}, 0, count, wide);
    return InItsFile(*source_, head_,
                     CheckFinite(head_, values, count, hidden_size_, head.first_id + first));
  });
  if (status.ok()) return head;
  if (!IsNonFinite(status)) return status;
  return NonFiniteError(absl::StrCat(
      status.message(), ", because softmax over all ids is NaN with it, as engines compute it"));
}

absl::StatusOr<Matrix> Logits(const Matrix& normed, const HeadSlice& slice, Executor& executor) {
  return Project(normed, {slice.dtype, slice.weight.data(), slice.ids, normed.cols()}, executor);
}

}  // namespace salient
