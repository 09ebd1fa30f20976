#include "core/model/blocks/embedding_and_head.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/config/model/model_config.h"
#include "core/kernels/forward_kernels.h"
#include "core/model/activations.h"
#include "core/model/blocks/norm.h"
#include "core/model/blocks/products.h"
#include "core/model/blocks/soft_cap.h"
#include "core/model/projection.h"
#include "core/parallel/tiles.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"
#include "core/tensor/weight_view.h"

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

// Holds the weight of a Linear without a bias, as it is stored.
struct StoredMatrix {
  DType dtype = DType::kF32;
  std::vector<std::byte> bytes;
};

absl::StatusOr<StoredMatrix> ReadMatrix(const TensorSource& source, const ModelConfig& config,
                                        const TensorSpec& spec) {
  const auto found = FindTensor(source, config, spec);
  if (!found.ok()) return found.status();
  StoredMatrix matrix;
  matrix.dtype = found->entry->dtype;
  matrix.bytes.resize(static_cast<size_t>(found->entry->SizeBytes()));
  absl::Status status = source.ReadRange(spec.name, 0, absl::MakeSpan(matrix.bytes));
  if (!status.ok()) return status;
  std::vector<float> row(static_cast<size_t>(spec.shape[1]));
  const WeightView view{matrix.dtype, matrix.bytes.data(), spec.shape[0], spec.shape[1]};
  for (int64_t i = 0; i < view.out_features; ++i) {
    view.ReadRows(i, 1, row.data());
    status =
        InItsFile(source, spec.name, CheckFinite(spec.name, row.data(), 1, view.in_features, i));
    if (!status.ok()) return status;
  }
  return matrix;
}

// Adds the embeddings of positions 0, 1, ...
absl::Status AddPositions(const TensorSource& source, const Model& model, Matrix& hidden) {
  if (!model.positions.has_value()) return absl::OkStatus();
  const PositionTable& table = *model.positions;
  const int64_t width = hidden.cols();
  if (hidden.rows() > *model.MostTokens()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the row has ", hidden.rows(), " tokens; expected at most ", *model.MostTokens(),
        ", for which ", model.config.source, " has embeddings of positions"));
  }
  const auto found = FindTensor(source, model.config, {table.name, {table.rows, width}});
  if (!found.ok()) return found.status();
  Matrix positions = Matrix::Unset(hidden.rows(), width);
  absl::Status status = ReadRows(source, table.name, found->entry->dtype, table.offset,
                                 hidden.rows(), width, positions.data());
  for (int64_t t = 0; status.ok() && t < hidden.rows(); ++t) {
    AddTo(positions.Row(t), width, hidden.Row(t));
  }
  return status;
}

}  // namespace

absl::StatusOr<Matrix> EmbedTokens(const TensorSource& source, const Model& model,
                                   absl::Span<const int64_t> tokens) {
  const ModelConfig& config = model.config;
  const int64_t width = model.embedding_size;
  const TensorSpec spec = {model.embeddings, {config.vocab_size, width}};
  const auto found = FindTensor(source, config, spec);
  if (!found.ok()) return found.status();
  Matrix hidden(static_cast<int64_t>(tokens.size()), width);
  for (int64_t t = 0; t < hidden.rows(); ++t) {
    const int64_t id = tokens[static_cast<size_t>(t)];
    if (id < 0 || id >= config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("token at position ", t, " is ", id,
                                                     "; expected 0 to ", config.vocab_size - 1,
                                                     ", the vocabulary of ", config.source));
    }
    absl::Status status =
        ReadRows(source, spec.name, found->entry->dtype, id, 1, width, hidden.Row(t));
    if (!status.ok()) return status;
  }
  if (model.embedding_multiplier != 1) {
    const auto factor = static_cast<float>(model.embedding_multiplier);
    Scale(hidden.data(), factor, hidden.rows() * width, hidden.data());
  }
  if (!model.input_projection.empty()) {
    const auto projection =
        ReadMatrix(source, config, {model.input_projection, {config.hidden_size, width}});
    if (!projection.ok()) return projection.status();
    SerialExecutor executor;
    auto projected = Project(
        hidden, {projection->dtype, projection->bytes.data(), config.hidden_size, width}, executor);
    if (!projected.ok()) return projected.status();
    hidden = *std::move(projected);
  }
  absl::Status status = AddPositions(source, model, hidden);
  if (!status.ok()) return status;
  return hidden;
}

absl::StatusOr<OutputHead> OutputHead::Open(const TensorSource& source, const Model& model) {
  const ModelConfig& config = model.config;
  const int64_t hidden = config.hidden_size;
  const std::string& name = model.HeadName();
  const auto found = FindTensor(source, config, {name, {config.vocab_size, model.embedding_size}});
  if (!found.ok()) return found.status();
  OutputHead head(source, model, found->entry->dtype);
  if (const auto& norm = model.final_norm; norm.has_value()) {
    auto weight = ReadVector(source, config, {norm->weight, {hidden}});
    if (!weight.ok()) return weight.status();
    head.norm_weight_ = std::move(weight->values);
    for (float& value : head.norm_weight_) value = norm->rule.plus_one ? value + 1 : value;
    if (!norm->bias.empty()) {
      auto bias = ReadVector(source, config, {norm->bias, {hidden}});
      if (!bias.ok()) return bias.status();
      head.norm_bias_ = std::move(bias->values);
    }
  }
  if (!model.output_projection.empty()) {
    auto projection =
        ReadMatrix(source, config, {model.output_projection, {model.embedding_size, hidden}});
    if (!projection.ok()) return projection.status();
    head.projection_dtype_ = projection->dtype;
    head.projection_ = std::move(projection->bytes);
  }
  return head;
}

absl::StatusOr<Matrix> OutputHead::Norm(const Matrix& hidden, Executor& executor) const {
  absl::StatusOr<Matrix> normed;
  if (model_->final_norm.has_value()) {
    const salient::Norm norm(model_->final_norm->rule, norm_weight_, norm_bias_);
    normed = norm.PaddedRows(hidden, executor);
  } else {
    normed = Matrix(PaddedTokens(hidden.rows()), hidden.cols());
    std::copy_n(hidden.data(), hidden.rows() * hidden.cols(), normed->data());
  }
  if (!normed.ok() || projection_.empty()) return normed;
  return Project(*normed,
                 {projection_dtype_, projection_.data(), model_->embedding_size, hidden.cols()},
                 executor);
}

absl::StatusOr<HeadSlice> OutputHead::Read(int64_t slice, Executor& executor) const {
  const std::string& name = model_->HeadName();
  HeadSlice head;
  head.first_id = slice * kSlice;
  head.dtype = dtype_;
  head.multiplier = model_->logit_multiplier;
  head.soft_cap = model_->logit_soft_cap;
  head.ids = std::min(kSlice, vocab_size_ - head.first_id);
  const int64_t width = model_->embedding_size;
  const int64_t row_bytes = width * SizeOf(dtype_);
  head.weight.resize(static_cast<size_t>(head.ids * row_bytes));
  const RowTiles tiles(head.ids, SliceOutputs(ComputeDType::kF32));
  const absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const int64_t first = tiles.First(tile);
    const int64_t count = tiles.Count(tile);
    std::byte* rows = head.weight.data() + first * row_bytes;
    absl::Status read =
        source_->ReadRange(name, (head.first_id + first) * row_bytes,
                           absl::MakeSpan(rows, static_cast<size_t>(count * row_bytes)));
    if (!read.ok()) return read;
    Matrix wide;
    const float* values = WidenedRows({dtype_, rows, count, width}, 0, count, wide);
    return InItsFile(*source_, name,
                     CheckFinite(name, values, count, width, head.first_id + first));
  });
  if (status.ok()) return head;
  if (!IsNonFinite(status)) return status;
  return NonFiniteError(absl::StrCat(
      status.message(), ", because softmax over all ids is NaN with it, as engines compute it"));
}

absl::StatusOr<Matrix> Logits(const Matrix& normed, const HeadSlice& slice, Executor& executor) {
  absl::StatusOr<Matrix> logits =
      Project(normed, {slice.dtype, slice.weight.data(), slice.ids, normed.cols()}, executor);
  if (!logits.ok() || (slice.multiplier == 1 && !slice.soft_cap.has_value())) return logits;
  const absl::Status status = ForEachRow(
      logits->rows(),
      [&](int64_t t) {
        if (slice.soft_cap.has_value()) {
          SoftCap(slice.multiplier, *slice.soft_cap, logits->cols(), logits->Row(t));
        } else {
          Scale(logits->Row(t), static_cast<float>(slice.multiplier), logits->cols(),
                logits->Row(t));
        }
      },
      executor);
  if (!status.ok()) return status;
  return logits;
}

}  // namespace salient
