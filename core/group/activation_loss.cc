#include "core/group/activation_loss.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/group/round_linears.h"
#include "core/kernels/round_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"
#include "core/method/ranges.h"
#include "core/tensor/stored_format.h"
#include "core/tensor/weight_view.h"

namespace salient {
namespace {

constexpr int64_t kTokens = 16;  // One task rounds the inputs of so many.

std::vector<int64_t> RowsOf(absl::Span<const Linear> linears) {
  std::vector<int64_t> rows;
  for (const Linear& linear : linears) rows.push_back(linear.weight.out_features);
  return rows;
}

// Returns |row|^2 of each row.
std::vector<double> SquaresByRow(const Matrix& rows) {
  std::vector<double> squares;
  for (int64_t t = 0; t < rows.rows(); ++t) {
    squares.push_back(Dot(rows.Row(t), rows.Row(t), rows.cols()));
  }
  return squares;
}

}  // namespace

ActivationLoss::ActivationLoss(absl::Span<const Linear> linears, const Statistics& statistics,
                               ActivationFormat activations)
    : linears_(linears.begin(), linears.end()),
      statistics_(&statistics),
      activations_(activations),
      tokens_(static_cast<int64_t>(statistics.sample.keys.size())),
      tiles_(RowsOf(linears), kRowTile) {}

absl::StatusOr<ActivationLoss> ActivationLoss::Create(const std::string& group,
                                                      absl::Span<const Linear> linears,
                                                      const Statistics& statistics,
                                                      ActivationFormat activations,
                                                      Executor& executor) {
  const StageScope stage(executor, Stage::kLoss);
  if (statistics.sample.keys.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(group, ": the statistics hold no token sample (sample_tokens is ",
                     statistics.params.sample_tokens,
                     "); expected one, which rounded activations are judged on"));
  }
  ActivationLoss loss(linears, statistics, activations);
  const int64_t in_features = statistics.params.in_features;
  loss.outputs_.resize(static_cast<size_t>(loss.tiles_.size()));
  absl::Status status = executor.ForEach(loss.tiles_.size(), [&](int64_t tile) -> absl::Status {
    const auto [index, first, count] = loss.tiles_.At(tile);
    const Linear& linear = loss.linears_[index];
    Matrix rows(count, in_features);
    linear.weight.ReadRows(first, count, rows.data());
    absl::Status finite =
        CheckFinite(absl::StrCat(linear.name, ".weight"), rows.data(), count, in_features, first);
    if (!finite.ok()) return finite;
    Matrix& outputs = loss.outputs_[tile];
    outputs = Matrix(loss.tokens_, count);
    return Gemm(Op::kPlain, Op::kTransposed, loss.tokens_, count, in_features,
                statistics.sample.values.data(), in_features, rows.data(), in_features, 0.0f,
                outputs.data(), count);
  });
  if (!status.ok()) return status;
  return loss;
}

float ActivationLoss::InputScale(absl::Span<const float> scales) const {
  if (activations_ != ActivationFormat::kStaticTensor) return 0;
  float largest = 0;
  for (size_t j = 0; j < scales.size(); ++j) {
    largest = std::max(largest, statistics_->max_abs[j] / scales[j]);
  }
  const float step = largest / kMostSteps;
  return step > 0 ? step : 1;
}

absl::StatusOr<Matrix> ActivationLoss::RoundedInputs(absl::Span<const float> scales,
                                                     Executor& executor) const {
  const int64_t columns = statistics_->params.in_features;
  std::vector<float> inverse(scales.begin(), scales.end());
  for (float& value : inverse) value = 1.0f / value;
  const float input_scale = InputScale(scales);
  Matrix rounded = Matrix::Unset(tokens_, columns);
  const RowTiles tiles(tokens_, kTokens);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    for (int64_t i = 0; i < tiles.Count(tile); ++i) {
      const int64_t t = tiles.First(tile) + i;
      float* row = rounded.Row(t);
      Multiply(statistics_->sample.values.data() + t * columns, inverse.data(), columns, row);
      const bool dynamic = activations_ == ActivationFormat::kDynamicToken;
      RoundToSteps(dynamic ? StepOf(row, columns) : input_scale, columns, row);
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return rounded;
}

std::vector<Loss> ActivationLoss::ByLinear(const std::vector<std::vector<double>>& of_tiles) const {
  std::vector<Loss> losses(linears_.size());
  for (int64_t tile = 0; tile < tiles_.size(); ++tile) {
    losses[tiles_.At(tile).index].Add({0, of_tiles[tile], true});
  }
  return losses;
}

absl::StatusOr<std::vector<Loss>> ActivationLoss::Measure(absl::Span<const float> scales,
                                                          DecodeRow decode,
                                                          Executor& executor) const {
  const absl::StatusOr<Matrix> inputs = RoundedInputs(scales, executor);
  if (!inputs.ok()) return inputs.status();
  const int64_t columns = inputs->cols();
  std::vector<std::vector<double>> squares(outputs_.size());
  absl::Status status = executor.ForEach(tiles_.size(), [&](int64_t tile) -> absl::Status {
    const auto [index, first, count] = tiles_.At(tile);
    Matrix rows = Matrix::Unset(count, columns);
    for (int64_t i = 0; i < count; ++i) decode(index, first + i, rows.Row(i));
    Matrix errors = Matrix::Unset(tokens_, count);
    std::copy_n(outputs_[tile].data(), tokens_ * count, errors.data());
    absl::Status product =
        Gemm(Op::kPlain, Op::kTransposed, tokens_, count, columns, inputs->data(), columns,
             rows.data(), columns, -1.0f, errors.data(), count);
    if (!product.ok()) return product;
    squares[tile] = SquaresByRow(errors);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return ByLinear(squares);
}

std::vector<Loss> ActivationLoss::Energies() const {
  std::vector<std::vector<double>> squares;
  for (const Matrix& outputs : outputs_) squares.push_back(SquaresByRow(outputs));
  return ByLinear(squares);
}

absl::StatusOr<std::vector<Loss>> ActivationLoss::Nearest(absl::Span<const float> scales,
                                                          const WeightFormat& format,
                                                          Executor& executor) const {
  std::vector<Ranges> ranges;
  for (const Linear& linear : linears_) {
    absl::StatusOr<Ranges> found = RangeMinMax(linear.weight, scales, format, false, executor);
    if (!found.ok()) return Named(linear.name, found.status());
    ranges.push_back(*std::move(found));
  }
  const auto decode = [&](size_t index, int64_t row, float* out) {
    const WeightView& weight = linears_[index].weight;
    const int64_t size = weight.in_features / ranges[index].groups;
    std::vector<uint8_t> codes(static_cast<size_t>(size));
    ReadScaledRows(weight, scales, row, 1, out);
    for (int64_t g = 0; g < ranges[index].groups; ++g) {
      const Affine affine = ranges[index].At(row, g, format);
      const int zero_point = static_cast<int>(affine.zero_point);
      float* values = out + g * size;
      NearestCodes(values, size, affine, codes.data());
      // It decodes as AffineGroups::DecodeRow, so that round-to-nearest is exactly as good as
      // itself.
      for (int64_t k = 0; k < size; ++k) {
        values[k] = affine.scale * static_cast<float>(codes[k] - zero_point);
      }
    }
  };
  return Measure(scales, decode, executor);
}

absl::StatusOr<std::vector<Loss>> ActivationLoss::Of(absl::Span<const AffineGroups> groups,
                                                     absl::Span<const float> scales,
                                                     Executor& executor) const {
  const auto decode = [&](size_t index, int64_t row, float* out) {
    groups[index].DecodeRow(row, out);
  };
  return Measure(scales, decode, executor);
}

int64_t ActivationLoss::MemoryBytes(int64_t total_out_features, const StatisticsParams& params,
                                    int concurrency) {
  const int64_t tokens = params.sample_tokens;
  // Rounded inputs, outputs, errors a token of a tile; and a tile's weights and errors.
  const int64_t tiles = total_out_features / kRowTile + 1;
  return 4 * tokens * (params.in_features + total_out_features) + 8 * tokens * tiles +
         int64_t{4} * concurrency * kRowTile * (params.in_features + tokens);
}

}  // namespace salient
