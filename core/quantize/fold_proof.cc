#include "core/quantize/fold_proof.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/fold.h"
#include "core/model/group_observer.h"
#include "core/model/prepared_block.h"

namespace salient {
namespace {

double DistanceOf(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (int64_t t = 0; t < a.rows(); ++t) {
    for (int64_t j = 0; j < a.cols(); ++j) {
      const double difference = static_cast<double>(a.Row(t)[j]) - b.Row(t)[j];
      sum += difference * difference;
    }
  }
  return std::sqrt(sum);
}

}  // namespace

FoldProof::FoldProof(const Model& model, const Matrix& row)
    : forward_(model, ComputeDType::kF32, kFoldProofTokens),
      row_(std::min(row.rows(), kFoldProofTokens), row.cols()) {
  std::copy_n(row.data(), row_.rows() * row_.cols(), row_.data());
}

absl::StatusOr<Matrix> FoldProof::Run(const BlockWeights& block, Executor& executor) const {
  const absl::StatusOr<PreparedBlock> prepared = forward_.Prepare(block, executor);
  if (!prepared.ok()) return prepared.status();
  Matrix row(row_.rows(), row_.cols());
  std::copy_n(row_.data(), row_.rows() * row_.cols(), row.data());
  return forward_.Run(*prepared, std::move(row), IgnoreGroup, executor);
}

absl::StatusOr<double> FoldProof::Difference(const GroupPlan& group, absl::Span<const float> scales,
                                             BlockWeights& block, Executor& executor) {
  if (!original_.has_value()) {
    absl::StatusOr<Matrix> original = Run(block, executor);
    if (!original.ok()) return original.status();
    original_ = *std::move(original);
  }
  const BlockPlan& plan = forward_.model().blocks[static_cast<size_t>(block.layer)];
  const std::vector<StoredVector> vectors = block.vectors;
  std::vector<std::pair<size_t, StoredLinear>> linears;
  if (group.fold.IntoLinear()) {
    linears.emplace_back(group.fold.index, block.linears[group.fold.index]);
  }
  DivideInput(plan, group, scales, block);
  for (const size_t index : group.linears) {
    StoredLinear scaled = MultiplyColumns(block.linears[index], scales);
    linears.emplace_back(index, std::exchange(block.linears[index], std::move(scaled)));
  }
  const absl::StatusOr<Matrix> folded = Run(block, executor);
  // A Linear that is there twice gets what it was last.
  for (auto linear = linears.rbegin(); linear != linears.rend(); ++linear) {
    block.linears[linear->first] = std::move(linear->second);
  }
  block.vectors = vectors;
  if (!folded.ok()) return folded.status();
  const double difference = DistanceOf(*folded, *original_);
  return difference == 0 ? 0 : difference / DistanceOf(*original_, row_);
}

absl::Status FoldProof::Check(const GroupPlan& group, double difference) {
  if (difference <= kMostFoldError) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      group.name, ": folding its scale changes what the block computes by ", difference,
      " of what it adds; expected at most ", kMostFoldError,
      ": the model has something that Salient does not know, and no result of it can be trusted"));
}

}  // namespace salient
