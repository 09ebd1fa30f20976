#include "core/model/blocks/norm.h"

#include <cmath>
#include <vector>

#include "core/kernels/forward_kernels.h"
#include "core/model/blocks/products.h"

namespace salient {
namespace {

// Sums in f64: some channels of a residual stream are a thousand times others.
void LayerNormalize(const float* x, absl::Span<const float> weight, absl::Span<const float> bias,
                    double epsilon, float* out) {
  const size_t n = weight.size();
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  double squares = 0;
  for (size_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(n) + epsilon);
  for (size_t i = 0; i < n; ++i) {
    const auto normal = static_cast<float>((x[i] - mean) * inverse);
    out[i] = normal * weight[i] + (bias.empty() ? 0.0f : bias[i]);
  }
}

}  // namespace

void Norm::Row(const float* x, float* out) const {
  if (rule_.kind == NormRule::Kind::kRms) {
    NormalizeRow(x, weight_.data(), size(), rule_.epsilon, out);
  } else {
    LayerNormalize(x, weight_, bias_, rule_.epsilon, out);
  }
}

void Norm::Row(const float* x, uint16_t* out) const {
  if (rule_.kind == NormRule::Kind::kRms) {
    NormalizeRow(x, weight_.data(), size(), rule_.epsilon, out);
    return;
  }
  std::vector<float> row(weight_.size());
  LayerNormalize(x, weight_, bias_, rule_.epsilon, row.data());
  RoundToBf16(row.data(), size(), out);
}

absl::StatusOr<Activations> Norm::Rows(const Matrix& x, ComputeDType compute,
                                       Executor& executor) const {
  Activations normed(compute, x.rows(), x.cols());
  const absl::Status status = ForEachRow(
      x.rows(), [&](int64_t t) { normed.Fill(t, 0, [&](auto* out) { Row(x.Row(t), out); }); },
      executor);
  if (!status.ok()) return status;
  return normed;
}

absl::StatusOr<Matrix> Norm::PaddedRows(const Matrix& x, Executor& executor) const {
  Matrix normed(PaddedTokens(x.rows()), x.cols());
  const absl::Status status = ForEachRow(
      x.rows(), [&](int64_t t) { Row(x.Row(t), normed.Row(t)); }, executor);
  if (!status.ok()) return status;
  return normed;
}

}  // namespace salient
